package tokenizer

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// chatTemplate is Qwen2.5's template, which differs between models only in the
// default system text and is rendered directly, or another one, which is interpreted.
type chatTemplate struct {
	text   string            // as Jinja
	system string            // the default system text of Qwen2.5's
	from   string            // the file, for messages
	names  map[string]string // the variables bos_token, eos_token, pad_token

	interpreted bool
	err         error // why it cannot be rendered
}

// qwenJinja is Qwen2.5-Instruct's chat_template.jinja (Apache-2.0).
//
//go:embed qwen2.5.jinja
var qwenJinja string

const qwenSystem = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

func qwenTemplate() *chatTemplate { return &chatTemplate{text: qwenJinja, system: qwenSystem} }

// templateWith is Qwen2.5's template with another default system text.
func templateWith(system string) *chatTemplate {
	return &chatTemplate{text: strings.ReplaceAll(qwenJinja, qwenSystem, quoteJinja(system)), system: system}
}

// parseTemplate reads a template: Qwen2.5's, or one to be interpreted.
func parseTemplate(from, text string, names map[string]string) *chatTemplate {
	c, qwens := qwenTemplateIn(text)
	if !qwens {
		c = &chatTemplate{text: text, interpreted: true}
		_, err := parseJinja(text)
		if err == nil && strings.TrimSpace(text) == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			c.err = fmt.Errorf("chat template %s: %w; mend it, or take the model's own again", from, err)
		}
	}
	c.from, c.names = from, names
	return c
}

// qwenTemplateIn recognises Qwen2.5's template with any default system text:
// what stands around that text must be the same. Line ends and blanks at the end
// of the file make no difference to Jinja with its tags' white space cut.
func qwenTemplateIn(text string) (c *chatTemplate, ok bool) {
	normal := strings.TrimRight(strings.ReplaceAll(text, "\r\n", "\n"), " \n")
	pieces := strings.Split(strings.TrimRight(qwenJinja, " \n"), qwenSystem)
	rest, ok := strings.CutPrefix(normal, pieces[0])
	quoted := ""
	for i, piece := range pieces[1:] {
		at := strings.Index(rest, piece)
		if !ok || at < 0 || i > 0 && rest[:at] != quoted {
			ok = false
			break
		}
		quoted, rest = rest[:at], rest[at+len(piece):]
	}
	system, valid := unquoteJinja(quoted)
	return &chatTemplate{text: normal, system: system}, ok && rest == "" && valid
}

// unquoteJinja reads the inside of a single-quoted Jinja string; ok is false where
// it would end there or has an escape that is not one of the usual.
func unquoteJinja(s string) (text string, ok bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\'':
			return "", false
		case '\\':
			if i++; i >= len(s) {
				return "", false
			}
			at := strings.IndexByte(`\'"nrt`, s[i])
			if at < 0 {
				return "", false
			}
			out.WriteByte("\\'\"\n\r\t"[at])
		default:
			out.WriteByte(c)
		}
	}
	return out.String(), true
}

func quoteJinja(s string) string {
	return strings.NewReplacer("\\", `\\`, "'", `\'`, "\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(s)
}

// fingerprint hashes what decides the rendered text.
func (c *chatTemplate) fingerprint() string {
	text := "qwen2.5\n" + c.system
	if c.interpreted {
		text = c.text + "\n" + c.names["bos_token"] + "\n" + c.names["eos_token"] + "\n" + c.names["pad_token"]
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
