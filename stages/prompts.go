package stages

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"lpipe/dataset"
	"lpipe/engine/tokenizer"
)

// pictures are words of prompts that mean what a text does not hold. Lower case.
var pictures = [...]string{
	"![", "<img", `\includegraphics`, "[asy]", "the figure below", "the figure above", "the figure shows", "the image below", "the image above",
	"the diagram below", "the diagram above", "shown in the figure", "shown in the diagram", "in the picture below", "as pictured", "the graph below", "the table below",
}

// findPrompt finds questions that cannot be answered from their text (the filters of AM-DeepSeek-R1-Distilled).
func findPrompt(k *Checks, r *view) string {
	for i := range r.Messages {
		if r.Messages[i].Role != dataset.User {
			continue
		}
		text := r.Messages[i].Content
		if k.Prompt.Addresses {
			if at := addressIn(text); at >= 0 {
				return "an address: " + excerpt(text, at, 60)
			}
		}
		if k.Prompt.Pictures {
			if at := pictureIn(text); at >= 0 {
				return "a picture: " + excerpt(text, at, 60)
			}
		}
		if !r.marks[i].remarkable || k.Prompt.NonText == 0 {
			continue
		}
		if share := nonText(text); share > k.Prompt.NonText {
			return fmt.Sprintf("%.0f %% of turn %d is no text: %s", 100*share, i+1, excerpt(text, 0, 60))
		}
	}
	return ""
}

// addressIn is the place of the first http or https address, -1 if there is none.
func addressIn(text string) int {
	for from := 0; ; {
		at := strings.Index(text[from:], "://")
		if at < 0 {
			return -1
		}
		at += from
		for _, scheme := range [...]string{"http", "https"} {
			if strings.HasSuffix(text[:at], scheme) {
				return at - len(scheme)
			}
		}
		from = at + len("://")
	}
}

// pictureIn is the place of the first of pictures, by their order, -1 if there is none. It looks closer only where the letter g
// or b or p, or a mark, says that it may be worth it: all of them have one.
func pictureIn(text string) int {
	for i := range len(text) {
		switch c := text[i]; c {
		case 'g', 'G', 'b', 'B', 'p', 'P', '!', '<', '[':
			if worthLooking(text, i, c|0x20) {
				return pictureSlowly(text)
			}
		}
	}
	return -1
}

// worthLooking says whether a word of pictures may stand around i.
func worthLooking(text string, i int, c byte) bool {
	has := func(from int, word string) bool {
		from += i
		return from >= 0 && from+len(word) <= len(text) && equalLower(text[from:from+len(word)], word)
	}
	switch c {
	case 'g':
		return has(-2, "figure") || has(-3, "image") || has(-3, "diagram") || has(0, "graph") || has(-8, `\includeg`)
	case 'b':
		return has(-2, "table")
	case 'p':
		return has(0, "picture")
	case '!':
		return has(0, "![")
	case '<':
		return has(0, "<img")
	}
	return has(0, "[asy]")
}

func pictureSlowly(text string) int {
	lower := strings.ToLower(text)
	for _, words := range pictures {
		if at := strings.Index(lower, words); at >= 0 {
			return min(at, len(text))
		}
	}
	return -1
}

// nonText is the share of characters that are neither letters, digits, blanks nor marks of prose and mathematics.
func nonText(s string) float64 {
	other, total := 0, 0
	for _, r := range s {
		total++
		if r < utf8.RuneSelf {
			if r < ' ' && r != '\n' && r != '\t' && r != '\r' {
				other++
			}
			continue
		}
		if !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsNumber(r) && !unicode.IsPunct(r) && !unicode.IsSpace(r) && !unicode.Is(unicode.Sm, r) {
			other++
		}
	}
	if total < 20 {
		return 0
	}
	return float64(other) / float64(total)
}

// findNormalForm finds what preprocess would change without losing anything.
func findNormalForm(_ *Checks, r *view) string {
	for i := range r.Messages {
		text := r.Messages[i].Content
		if !r.marks[i].remarkable {
			continue
		}
		if at := strings.IndexByte(text, '\r'); at >= 0 {
			return fmt.Sprintf("a carriage return in turn %d (%s): %s", i+1, r.Messages[i].Role, excerpt(text, at, 60))
		}
		if normal := tokenizer.NFC(text); normal != text {
			return fmt.Sprintf("not NFC in turn %d (%s): %s", i+1, r.Messages[i].Role, excerpt(text, differsAt(text, normal), 60))
		}
	}
	return ""
}

// differsAt is the first place where two texts differ.
func differsAt(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
