package dvc

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// A scope is values that ${…} may name, and the HCL expression that holds them in the pipeline file.
type scope struct {
	hcl    string
	values any
	bound  map[string]bound
	used   func() // called when a template names something of it; may be nil
}

// A name in ${…}: parts of a path, texts or numbers of a list.
type reference []any

var (
	interpolation = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(\\?)\$\{([^}]*)\}`) })
	referencePart = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^(?:\.?([^.\[\]]+)|\[([^\]]+)\])`) })
	identifier    = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`) })
)

func parseReference(text string) (reference, error) {
	var ref reference
	for rest := strings.TrimSpace(text); rest != ""; {
		m := referencePart().FindStringSubmatch(rest)
		if m == nil {
			return nil, fmt.Errorf("${%s} is not a path of names", text)
		}
		rest = rest[len(m[0]):]
		if n, err := strconv.Atoi(m[2]); err == nil {
			ref = append(ref, n)
		} else {
			ref = append(ref, strings.Trim(m[1]+m[2], `"'`))
		}
	}
	if len(ref) == 0 {
		return nil, fmt.Errorf("${%s} names nothing", text)
	}
	return ref, nil
}

// in finds what a reference leads to.
func (r reference) in(value any) (any, bool) {
	for _, part := range r {
		switch at := value.(type) {
		case map[string]any:
			next, ok := at[fmt.Sprint(part)]
			if !ok {
				return nil, false
			}
			value = next
		case []any:
			n, ok := part.(int)
			if !ok {
				if i, err := strconv.Atoi(fmt.Sprint(part)); err == nil {
					n, ok = i, true
				}
			}
			if !ok || n < 0 || n >= len(at) {
				return nil, false
			}
			value = at[n]
		default:
			return nil, false
		}
	}
	return value, true
}

// hcl writes a reference behind an expression.
func (r reference) hcl(base string) string {
	for _, part := range r {
		switch p := part.(type) {
		case int:
			base += fmt.Sprintf("[%d]", p)
		case string:
			if identifier().MatchString(p) {
				base += "." + p
			} else {
				base += "[" + quote(p) + "]"
			}
		}
	}
	return base
}

// find looks a reference up in scopes, the last one first, and returns its HCL and its value.
func find(scopes []scope, text string) (string, any, error) {
	ref, err := parseReference(text)
	if err != nil {
		return "", nil, err
	}
	for _, s := range slices.Backward(scopes) {
		if one, ok := s.bound[fmt.Sprint(ref[0])]; ok {
			if value, ok := ref[1:].in(one.value); ok {
				return ref[1:].hcl(one.hcl), value, nil
			}
		}
		if value, ok := ref.in(s.values); ok {
			if s.used != nil {
				s.used()
			}
			return ref.hcl(s.hcl), value, nil
		}
	}
	return "", nil, fmt.Errorf("${%s} names nothing in params.yaml, vars or the loop", text)
}

// bound is a name with an expression of its own: item, key.
type bound struct {
	hcl   string
	value any
}

// template makes an HCL expression of a text with ${…}: the expression itself if the text is one reference alone, else a
// quoted template.
func template(scopes []scope, text string) (string, error) {
	if m := interpolation().FindStringSubmatch(text); m != nil && m[0] == text && m[1] == "" {
		expr, _, err := find(scopes, m[2])
		return expr, err
	}
	inner, err := interpolate(scopes, text, func(s string) string { q := quote(s); return q[1 : len(q)-1] })
	return `"` + inner + `"`, err
}

// evaluate gives the text that a template makes, false where it hangs on a loop or names a list or mapping.
func evaluate(scopes []scope, text string) (string, bool) {
	known := true
	done := interpolation().ReplaceAllStringFunc(text, func(one string) string {
		m := interpolation().FindStringSubmatch(one)
		ref, err := parseReference(m[2])
		if m[1] != "" || err != nil {
			known = false
			return one
		}
		for _, s := range slices.Backward(scopes) {
			if _, loop := s.bound[fmt.Sprint(ref[0])]; loop {
				break
			}
			switch value, ok := ref.in(s.values); value.(type) {
			case nil, map[string]any, []any:
			default:
				if ok {
					return fmt.Sprint(value)
				}
			}
		}
		known = false
		return one
	})
	return done, known
}

// interpolate translates the references in a text; literal quotes what stands between them.
func interpolate(scopes []scope, text string, literal func(string) string) (string, error) {
	var b strings.Builder
	for {
		at := interpolation().FindStringSubmatchIndex(text)
		if at == nil {
			b.WriteString(literal(text))
			return b.String(), nil
		}
		if at[3] > at[2] { // \${ is a literal ${
			b.WriteString(literal(text[:at[0]] + text[at[3]:at[1]]))
			text = text[at[1]:]
			continue
		}
		b.WriteString(literal(text[:at[0]]))
		expr, value, err := find(scopes, text[at[4]:at[5]])
		if err != nil {
			return "", err
		}
		b.WriteString(flags(expr, value))
		text = text[at[1]:]
	}
}

// flags writes a value into a command as DVC does: a mapping as options, a list as words, anything else as it is.
func flags(expr string, value any) string {
	switch v := value.(type) {
	case map[string]any:
		var words []string
		for _, name := range sortedKeys(v) {
			words = append(words, flag("--"+name, reference{name}.hcl(expr), v[name]))
		}
		return strings.Join(words, " ")
	case []any:
		return `${join(" ", ` + expr + `)}`
	}
	return "${" + expr + "}"
}

func flag(name, expr string, value any) string {
	switch v := value.(type) {
	case map[string]any:
		var words []string
		for _, inner := range sortedKeys(v) {
			words = append(words, flag(name+"."+inner, reference{inner}.hcl(expr), v[inner]))
		}
		return strings.Join(words, " ")
	case bool:
		return "${" + expr + ` ? "` + name + `" : ""}`
	}
	return name + " " + flags(expr, value)
}

// quote writes a text as an HCL string, without templates.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range escapeTemplates(s) {
		switch r {
		case '"', '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case '\n':
			b.WriteString(`\n`)
		case '\t':
			b.WriteString(`\t`)
		case '\r':
			b.WriteString(`\r`)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func escapeTemplates(s string) string {
	return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(s)
}

// literal writes a value of YAML as HCL.
func literal(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case string:
		return quote(v)
	case []any:
		var parts []string
		for _, one := range v {
			parts = append(parts, literal(one))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case map[string]any:
		var parts []string
		for _, name := range sortedKeys(v) {
			parts = append(parts, quote(name)+" = "+literal(v[name]))
		}
		return "{ " + strings.Join(parts, ", ") + " }"
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	}
	return fmt.Sprint(value)
}

// plain makes of a YAML node what JSON could hold: names of mappings are texts.
func plain(node *yaml.Node) (any, error) {
	if node == nil || node.Kind == 0 {
		return nil, nil
	}
	var v any
	if err := node.Decode(&v); err != nil {
		return nil, err
	}
	return textKeys(v), nil
}

func textKeys(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, one := range v {
			v[name] = textKeys(one)
		}
	case map[any]any:
		named := make(map[string]any, len(v))
		for name, one := range v {
			named[fmt.Sprint(name)] = textKeys(one)
		}
		return named
	case []any:
		for i, one := range v {
			v[i] = textKeys(one)
		}
	}
	return v
}

// fields iterates over a YAML mapping in its order.
func fields(node *yaml.Node, each func(name string, value *yaml.Node)) {
	if node == nil {
		return
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	if node.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == "<<" {
			fields(node.Content[i+1], each)
			continue
		}
		each(node.Content[i].Value, node.Content[i+1])
	}
}

func field(node *yaml.Node, name string) (found *yaml.Node) {
	fields(node, func(n string, value *yaml.Node) {
		if n == name {
			found = value
		}
	})
	return found
}
