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
func findPrompt(k *Checks, r *dataset.Row) string {
	for i := range r.Messages {
		if r.Messages[i].Role != dataset.User {
			continue
		}
		text := r.Messages[i].Content
		if k.Prompt.Addresses {
			for _, scheme := range [...]string{"http://", "https://"} {
				if at := strings.Index(text, scheme); at >= 0 {
					return "an address: " + excerpt(text, at, 60)
				}
			}
		}
		if k.Prompt.Pictures {
			if at := pictureIn(text); at >= 0 {
				return "a picture: " + excerpt(text, at, 60)
			}
		}
		if share := nonText(text); k.Prompt.NonText > 0 && share > k.Prompt.NonText {
			return fmt.Sprintf("%.0f %% of turn %d is no text: %s", 100*share, i+1, excerpt(text, 0, 60))
		}
	}
	return ""
}

// pictureIn is the place of the first of pictures, -1 if there is none.
func pictureIn(text string) int {
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
func findNormalForm(_ *Checks, r *dataset.Row) string {
	for i := range r.Messages {
		text := r.Messages[i].Content
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
