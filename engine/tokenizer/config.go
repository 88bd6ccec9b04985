package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// tokenizerConfig is what counts of tokenizer_config.json.
type tokenizerConfig struct {
	Class    string
	EOS, Pad string
	BOS      string
	Adds     bool   // tokens or a space around a text
	Template string // "" where there is none
	Added    []addedToken
	Specials []string
}

// tokenName is a token as a text or as an object with "content".
type tokenName string

func (n *tokenName) UnmarshalJSON(data []byte) error {
	var object struct{ Content string }
	if len(data) > 0 && data[0] == '{' {
		if err := json.Unmarshal(data, &object); err != nil {
			return err
		}
		*n = tokenName(object.Content)
		return nil
	}
	return json.Unmarshal(data, (*string)(n))
}

// addedJSON is an added token in tokenizer.json and tokenizer_config.json.
type addedJSON struct {
	ID      int32  `json:"id"`
	Content string `json:"content"`
	Special bool   `json:"special"`
	addedRules
}

func (a addedJSON) token() addedToken { return addedToken{a.Content, a.ID, a.Special, a.addedRules} }

// config reads tokenizer_config.json; without one, all is left open.
func (f folder) config() (*tokenizerConfig, error) {
	const name = "tokenizer_config.json"
	data, err := f.read(name)
	if err != nil || data == nil {
		return &tokenizerConfig{}, err
	}
	var file struct {
		Class      string               `json:"tokenizer_class"`
		EOS        tokenName            `json:"eos_token"`
		Pad        tokenName            `json:"pad_token"`
		BOS        tokenName            `json:"bos_token"`
		AddBOS     bool                 `json:"add_bos_token"`
		AddEOS     bool                 `json:"add_eos_token"`
		AddSpace   bool                 `json:"add_prefix_space"`
		Template   json.RawMessage      `json:"chat_template"`
		Added      map[string]addedJSON `json:"added_tokens_decoder"`
		Additional []tokenName          `json:"additional_special_tokens"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, f.wrong(name, err)
	}
	c := &tokenizerConfig{Class: file.Class, EOS: string(file.EOS), Pad: string(file.Pad), BOS: string(file.BOS)}
	c.Adds = file.AddBOS || file.AddEOS || file.AddSpace
	for _, n := range append(file.Additional, file.EOS, file.Pad, file.BOS) {
		c.Specials = append(c.Specials, string(n))
	}
	if c.Template, err = templateText(file.Template); err != nil {
		return nil, f.wrong(name, err)
	}
	for key, a := range file.Added {
		id, err := strconv.Atoi(key)
		if err != nil || id > maxID {
			return nil, f.wrong(name, fmt.Errorf("added_tokens_decoder has the key %q, which is no id", key))
		}
		a.ID = int32(id)
		c.Added = append(c.Added, a.token())
	}
	return c, nil
}

// templateText takes a template, or the default one of a list of named ones.
func templateText(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var text string
	if raw[0] == '"' {
		err := json.Unmarshal(raw, &text)
		return text, err
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(raw, &list); err != nil {
		return "", fmt.Errorf("chat_template is neither a text nor a list of named ones: %w", err)
	}
	for _, t := range list {
		if t.Name == "default" {
			return t.Template, nil
		}
	}
	return "", nil
}

// names are the variables that templates know control tokens by.
func (c *tokenizerConfig) names() map[string]string {
	out := map[string]string{}
	for name, text := range map[string]string{"bos_token": c.BOS, "eos_token": c.EOS, "pad_token": c.Pad} {
		if text != "" {
			out[name] = text
		}
	}
	return out
}

// special says whether an added token is special where only its name is known.
func (c *tokenizerConfig) special(name string) bool {
	i := slices.Index(qwenAdded[:], name)
	return i >= 0 && i < qwenSpecial || slices.Contains(c.Specials, name)
}

// template returns the text of the chat template and the file that it is in,
// which is "" where the folder has none.
func (f folder) template(config *tokenizerConfig) (text, from string, err error) {
	data, err := f.read("chat_template.jinja")
	if err != nil {
		return "", "", err
	}
	if data != nil {
		return string(data), f.path("chat_template.jinja"), nil
	}
	if config.Template != "" {
		return config.Template, f.path("tokenizer_config.json"), nil
	}
	return "", "", nil
}

// named returns the id of a token that the configuration names, or of Qwen2.5's,
// or -1 where the vocabulary lacks that one.
func (f folder) named(v *vocabulary, name, setting, otherwise string) (int32, error) {
	if name == "" {
		if t, ok := v.added.byName(otherwise); ok {
			return t.ID, nil
		}
		return -1, nil
	}
	t, ok := v.added.byName(name)
	if !ok {
		return -1, f.wrong("tokenizer_config.json", fmt.Errorf("%s is %q, which is no added token", setting, name))
	}
	return t.ID, nil
}
