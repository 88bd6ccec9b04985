package tokenizer

import "strings"

// Listing is a vocabulary as other programs' files list it.
type Listing struct {
	Tokens  []Listed // by id
	Merges  []string // best first: two spelled tokens with a blank between them
	Pattern string   // "qwen2", "llama3", or "" for another way to cut text
}

// Listed is one token. Regular tokens are spelled as in vocab.json, where every byte has a printable character of its
// own; added ones are their text. Text is "" where no token has the id.
type Listed struct {
	Text           string
	Added, Special bool
}

// List returns the vocabulary.
func (t *Tokenizer) List() Listing {
	l := Listing{Tokens: make([]Listed, len(t.v.spans))}
	t.regularTokens(func(id int32, spelled string) { l.Tokens[id].Text = spelled })
	for _, a := range t.v.added.list {
		l.Tokens[a.ID] = Listed{Text: a.Content, Added: true, Special: a.Special}
	}
	lines := strings.Split(strings.TrimSuffix(string(t.mergesText()), "\n"), "\n")
	l.Merges = lines[1:] // the first line names the version
	switch t.v.pre.digits {
	case 1:
		l.Pattern = "qwen2"
	case 3:
		l.Pattern = "llama3"
	}
	return l
}

// Template is the chat template's text.
func (t *Tokenizer) Template() string { return t.template.text }
