package dataset

import (
	"encoding/json"
	"strings"
)

// Roles of messages.
const (
	System    = "system"
	User      = "user"
	Assistant = "assistant"
	Tool      = "tool"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
	// ToolCalls is the JSON list of an assistant's calls, as the file had it; empty without any.
	ToolCalls json.RawMessage `json:"tool_calls,omitempty"`
}

// Row is one example: a conversation, and what is known about it. In JSONL it is one object a line, with the
// fields in this order and empty ones (but id and messages) left out.
type Row struct {
	ID       string    `json:"id"`
	Messages []Message `json:"messages"`
	// Answer is the reference: what the last \boxed{} should hold, or "" if nobody knows.
	Answer string `json:"answer,omitempty"`
	// Source names the set that the row came from.
	Source string `json:"source,omitempty"`
	// License is what the row's data set is under, as hubs name it: cc-by-nc-sa-4.0.
	License string          `json:"license,omitempty"`
	Tools   json.RawMessage `json:"tools,omitempty"`
	// Meta holds further columns that convert was told to keep, sorted by name.
	Meta []Pair `json:"-"` // written as the object "meta"
	// Flags names the checks that found something and let the row pass.
	Flags []string `json:"flags,omitempty"`
}

// Pair is one named text.
type Pair struct{ Name, Value string }

// Prompt is what the user said: the contents of the user turns, a line each.
func (r *Row) Prompt() string {
	var first string
	count := 0
	for i := range r.Messages {
		if r.Messages[i].Role == User {
			if count == 0 {
				first = r.Messages[i].Content
			}
			count++
		}
	}
	if count < 2 {
		return first
	}
	parts := make([]string, 0, count)
	for i := range r.Messages {
		if r.Messages[i].Role == User {
			parts = append(parts, r.Messages[i].Content)
		}
	}
	return strings.Join(parts, "\n")
}

// Response is the content of the last assistant turn, "" without one.
func (r *Row) Response() string {
	for i := len(r.Messages) - 1; i >= 0; i-- {
		if r.Messages[i].Role == Assistant {
			return r.Messages[i].Content
		}
	}
	return ""
}

// Column is the text of a named column: id, source, license, answer, or one of Meta.
func (r *Row) Column(name string) (value string, ok bool) {
	switch name {
	case "id":
		return r.ID, true
	case "source":
		return r.Source, true
	case "license":
		return r.License, true
	case "answer":
		return r.Answer, true
	}
	for _, p := range r.Meta {
		if p.Name == name {
			return p.Value, true
		}
	}
	return "", false
}

// Bytes is how much text the row holds.
func (r *Row) Bytes() int {
	n := 0
	for i := range r.Messages {
		n += len(r.Messages[i].Content)
	}
	return n
}
