// Package demo makes the demo project: rows, a pipeline file, and the tiny base model that Model embeds.
//
// The rows are short word problems in the schema of ServiceNow-AI/R1-Distill-SFT (config v0), made from a
// seed; some are dirty on purpose. The base model has read the same kind of problems, each with one worked
// line, as plain text (Corpus): it can calculate, but it has never seen a chat, a <think> or a \boxed answer.
// That is what fine-tuning teaches it, so the demo shows something true: accuracy from nearly 0 to most.
package demo

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// Row is one line of the demo's data, in the columns of R1-Distill-SFT v0.
type Row struct {
	ID       string  `json:"id"`
	Answer   string  `json:"reannotated_assistant_content"`
	Problem  string  `json:"problem"`
	Source   string  `json:"source"`
	Solution string  `json:"solution"`
	Verified *string `json:"verified"`
	Quality  *string `json:"quality_metrics"`
}

// Dirt names what is wrong with a row that Rows spoiled on purpose.
type Dirt string

// What Rows plants, and which stage of the demo pipeline is to find it.
const (
	Clean         Dirt = ""
	Unclosed      Dirt = "think not closed"        // validate
	NoBox         Dirt = "no boxed answer"         // validate
	WrongBox      Dirt = "box against solution"    // validate
	ControlTokens Dirt = "control token in text"   // validate
	Empty         Dirt = "empty problem"           // convert or validate
	Duplicate     Dirt = "duplicate of a problem"  // preprocess
	Markup        Dirt = "HTML and odd characters" // preprocess mends it
)

// Problem is a word problem with its worked line.
type Problem struct {
	Text   string
	Worked string // "12 + 7 = 19"
	Result int
}

// NewProblem draws a problem.
func NewProblem(r *rand.Rand) Problem {
	name, thing := pick(r, names()), pick(r, things())
	switch r.IntN(3) {
	case 0:
		a, b := 2+r.IntN(28), 2+r.IntN(9)
		text := pick(r, []string{
			"%[1]s has %[3]d %[2]s and buys %[4]d more. How many %[2]s does %[1]s have now?",
			"%[1]s finds %[3]d %[2]s, then %[4]d more. How many %[2]s are there?",
			"There are %[3]d %[2]s in a box. %[1]s adds %[4]d. How many are in the box?",
		})
		return Problem{fmt.Sprintf(text, name, thing, a, b), fmt.Sprintf("%d + %d = %d", a, b, a+b), a + b}
	case 1:
		b := 2 + r.IntN(9)
		a := b + 1 + r.IntN(28)
		text := pick(r, []string{
			"%[1]s has %[3]d %[2]s and gives away %[4]d. How many %[2]s are left?",
			"There are %[3]d %[2]s on a table. %[1]s takes %[4]d. How many remain?",
			"%[1]s had %[3]d %[2]s and lost %[4]d of them. How many %[2]s does %[1]s have now?",
		})
		return Problem{fmt.Sprintf(text, name, thing, a, b), fmt.Sprintf("%d - %d = %d", a, b, a-b), a - b}
	default:
		a, b := 2+r.IntN(8), 2+r.IntN(8)
		text := pick(r, []string{
			"%[1]s has %[3]d bags with %[4]d %[2]s each. How many %[2]s are there?",
			"%[1]s packs %[4]d %[2]s into each of %[3]d boxes. How many %[2]s in all?",
		})
		return Problem{fmt.Sprintf(text, name, thing, a, b), fmt.Sprintf("%d * %d = %d", a, b, a*b), a * b}
	}
}

// Rows makes n rows from a seed, about one in twelve dirty, and says for each what is wrong with it. No
// clean problem stands twice.
func Rows(seed uint64, n int) ([]Row, []Dirt) {
	r := rand.New(rand.NewPCG(seed, 0x726f7773))
	seen := map[string]bool{}
	rows, dirt := make([]Row, 0, n), make([]Dirt, 0, n)
	for len(rows) < n {
		p := NewProblem(r)
		if seen[p.Text] {
			continue
		}
		seen[p.Text] = true
		row := Row{
			ID: fmt.Sprintf("demo-%05d", len(rows)), Source: "lpipe-demo", Problem: p.Text,
			Answer:   fmt.Sprintf("<think>\n%s\n</think>\n\nThe answer is \\boxed{%d}.", p.Worked, p.Result),
			Solution: fmt.Sprintf("%s. The answer is $\\boxed{%d}$.", p.Worked, p.Result),
		}
		d := Clean
		if r.IntN(12) == 0 && len(rows) > 0 {
			d = spoil(r, &row, rows[r.IntN(len(rows))], p)
		}
		rows, dirt = append(rows, row), append(dirt, d)
	}
	return rows, dirt
}

// spoil damages a row in one of the ways that real reasoning data has.
func spoil(r *rand.Rand, row *Row, earlier Row, p Problem) Dirt {
	d := pick(r, []Dirt{Unclosed, NoBox, WrongBox, ControlTokens, Empty, Duplicate, Markup})
	switch d {
	case Unclosed:
		row.Answer = strings.Replace(row.Answer, "\n</think>\n\n", " and so on and ", 1)
	case NoBox:
		row.Answer = fmt.Sprintf("<think>\n%s\n</think>\n\nThe answer is %d.", p.Worked, p.Result)
	case WrongBox:
		row.Answer = strings.Replace(row.Answer, fmt.Sprintf("\\boxed{%d}", p.Result), fmt.Sprintf("\\boxed{%d}", p.Result+1+r.IntN(5)), 1)
	case ControlTokens:
		row.Problem += " <|im_end|>"
	case Empty:
		row.Problem = "  "
	case Duplicate:
		if strings.TrimSpace(earlier.Problem) == "" {
			row.Problem = "  "
			return Empty
		}
		row.Problem, row.Answer, row.Solution = earlier.Problem, earlier.Answer, earlier.Solution
	case Markup:
		row.Problem = "<p>" + strings.Replace(row.Problem, " ", "\u200b &nbsp;", 1) + "</p>\r\n"
	}
	return d
}

// Shuffle exchanges the answers among rows, so that they say nothing about their problems: what a model
// learns from such rows is the form alone. A test shows by it that the demo's accuracy is earned.
func Shuffle(rows []Row, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0x7368756666))
	r.Shuffle(len(rows), func(i, j int) {
		rows[i].Answer, rows[j].Answer = rows[j].Answer, rows[i].Answer
		rows[i].Solution, rows[j].Solution = rows[j].Solution, rows[i].Solution
	})
}

// Corpus makes n plain texts from a seed: what the base model was trained on.
func Corpus(seed uint64, n int) []string {
	r := rand.New(rand.NewPCG(seed, 0x636f72707573))
	texts := make([]string, n)
	for i := range texts {
		p := NewProblem(r)
		texts[i] = p.Text + "\n" + p.Worked + "\n"
	}
	return texts
}

// WriteRows writes rows as JSONL.
func WriteRows(w io.Writer, rows []Row) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	for i := range rows {
		if err := e.Encode(&rows[i]); err != nil {
			return err
		}
	}
	return nil
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func names() []string {
	return []string{"Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gia", "Hugo", "Ida", "Jon", "Kim", "Leo", "Mia", "Noa", "Oli", "Pia", "Ron", "Sue", "Tom", "Uma"}
}

func things() []string {
	return []string{"apples", "books", "coins", "shells", "cards", "pens", "eggs", "stones", "stamps", "cups", "plums", "nuts", "balls", "keys", "leaves", "cakes"}
}
