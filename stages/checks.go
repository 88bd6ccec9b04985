package stages

import (
	"fmt"

	"lpipe/dataset"
	"lpipe/engine/tokenizer"
)

// Checks are the checks of validate, each with its severity: error (the row is treated as on_fail says), warn
// (counted, and named in the report) or off.
type Checks struct {
	Empty         SeverityOnly       `hcl:"empty,optional" doc:"a turn without text"`
	Roles         RolesCheck         `hcl:"roles,optional" doc:"user and assistant take turns, the user first, the assistant last; a system turn only at the beginning"`
	Think         ThinkCheck         `hcl:"think,optional" doc:"reasoning tags: one <think> and one </think>, in order, with something inside and behind that is not the same"`
	Boxed         BoxedCheck         `hcl:"boxed,optional" doc:"the answer's \\boxed{}: closed, and equal to the row's answer where that is known"`
	ControlTokens SeverityOnly       `hcl:"control_tokens,optional" doc:"text that looks like a chat template's control tokens"`
	Encoding      SeverityOnly       `hcl:"encoding,optional" doc:"U+FFFD, control, zero-width and direction characters, text decoded with the wrong encoding"`
	Length        LengthCheck        `hcl:"length,optional" doc:"characters of prompt and response"`
	Tokens        TokensCheck        `hcl:"tokens,optional" doc:"tokens of prompt and response; needs the input tokenizer"`
	Repetition    RepetitionCheck    `hcl:"repetition,optional" doc:"a phrase that repeats itself over and over"`
	Language      LanguageCheck      `hcl:"language,optional" doc:"writing systems in the response that the prompt has not"`
	Refusal       SeverityOnly       `hcl:"refusal,optional" doc:"an answer that begins by refusing"`
	Contamination ContaminationCheck `hcl:"contamination,optional" doc:"prompts that stand in the files of the input against"`
	IDs           SeverityOnly       `hcl:"ids,optional" doc:"an id that an earlier row has"`
	Flags         SeverityOnly       `hcl:"flags,optional" doc:"rows that an earlier stage flagged"`
}

// SeverityOnly is a check without limits.
type SeverityOnly struct {
	Severity string `hcl:"severity,optional" doc:"error, warn or off"`
}

// RolesCheck looks at who speaks.
type RolesCheck struct {
	Severity string `hcl:"severity,optional" doc:"error, warn or off"`
	System   bool   `hcl:"system,optional" doc:"rows may begin with a system turn"`
	Tools    bool   `hcl:"tools,optional" doc:"rows may have tool turns"`
}

// ThinkCheck looks at the reasoning.
type ThinkCheck struct {
	Severity string `hcl:"severity,optional" doc:"error, warn or off"`
	Required bool   `hcl:"required,optional" doc:"every row must have reasoning"`
}

// BoxedCheck looks at the final answer.
type BoxedCheck struct {
	Severity string `hcl:"severity,optional" doc:"error, warn or off"`
	Required bool   `hcl:"required,optional" doc:"every row must have a \\boxed{} behind its reasoning"`
}

// LengthCheck limits characters; 0 sets no limit.
type LengthCheck struct {
	Severity    string `hcl:"severity,optional" doc:"error, warn or off"`
	MinPrompt   int    `hcl:"min_prompt,optional" unit:"characters" doc:"of the user's turns together"`
	MaxPrompt   int    `hcl:"max_prompt,optional" unit:"characters" doc:"0: any"`
	MinResponse int    `hcl:"min_response,optional" unit:"characters" doc:"of the last assistant turn"`
	MaxResponse int    `hcl:"max_response,optional" unit:"characters" doc:"0: any"`
}

// TokensCheck limits tokens; 0 sets no limit.
type TokensCheck struct {
	Severity    string `hcl:"severity,optional" doc:"error, warn or off"`
	MaxPrompt   int    `hcl:"max_prompt,optional" unit:"tokens" doc:"0: any"`
	MaxResponse int    `hcl:"max_response,optional" unit:"tokens" doc:"0: any"`
	MaxTotal    int    `hcl:"max_total,optional" unit:"tokens" doc:"of the whole conversation in the chat template; 0: any"`
}

// RepetitionCheck limits loops.
type RepetitionCheck struct {
	Severity string `hcl:"severity,optional" doc:"error, warn or off"`
	Times    int    `hcl:"times,optional" doc:"how often in a row a phrase may stand before it counts as a loop"`
	Span     int    `hcl:"span,optional" unit:"characters" doc:"loops shorter than this, all repetitions together, pass"`
}

// LanguageCheck limits what is written in other writing systems.
type LanguageCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Share    float64 `hcl:"share,optional" doc:"of the response's letters; Greek passes in mathematics"`
}

// ContaminationCheck compares n-grams of words with those of test sets.
type ContaminationCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	NGram    int     `hcl:"ngram,optional" unit:"words" doc:"shorter prompts are compared whole"`
	Share    float64 `hcl:"share,optional" doc:"of the prompt's n-grams that stand in one of the test sets"`
}

func defaultChecks() Checks {
	on := SeverityOnly{"error"}
	return Checks{
		Empty: on, ControlTokens: on, Encoding: on, Refusal: on, IDs: SeverityOnly{"warn"}, Flags: SeverityOnly{"warn"},
		Roles:         RolesCheck{Severity: "error", System: true, Tools: true},
		Think:         ThinkCheck{Severity: "error"},
		Boxed:         BoxedCheck{Severity: "error"},
		Length:        LengthCheck{Severity: "error", MaxPrompt: 32_000, MaxResponse: 100_000},
		Tokens:        TokensCheck{Severity: "error"},
		Repetition:    RepetitionCheck{Severity: "error", Times: 8, Span: 200},
		Language:      LanguageCheck{Severity: "error", Share: 0.02},
		Contamination: ContaminationCheck{Severity: "error", NGram: 8, Share: 0.5},
	}
}

// Names of checks in the order of the funnel: a row is counted under the first that rejects it.
var checkNames = [...]string{"empty", "roles", "think", "boxed", "control_tokens", "encoding", "length", "tokens", "repetition", "language", "refusal", "contamination", "ids", "flags", "near_duplicates"}

const (
	checkEmpty = iota
	checkRoles
	checkThink
	checkBoxed
	checkControl
	checkEncoding
	checkLength
	checkTokens
	checkRepetition
	checkLanguage
	checkRefusal
	checkContamination
	checkIDs
	checkFlags
	checkNear
	checkCount
)

func (c *Checks) severities() [checkCount]string {
	return [checkCount]string{
		c.Empty.Severity, c.Roles.Severity, c.Think.Severity, c.Boxed.Severity, c.ControlTokens.Severity,
		c.Encoding.Severity, c.Length.Severity, c.Tokens.Severity, c.Repetition.Severity, c.Language.Severity,
		c.Refusal.Severity, c.Contamination.Severity, c.IDs.Severity, c.Flags.Severity, "error",
	}
}

// check finds settings that do not fit together.
func (c *Checks) check() error {
	for i, severity := range c.severities() {
		if err := among("checks."+checkNames[i]+".severity", severity, "error", "warn", "off"); err != nil {
			return err
		}
	}
	switch {
	case c.Length.MaxPrompt > 0 && c.Length.MinPrompt > c.Length.MaxPrompt:
		return fmt.Errorf("checks.length: min_prompt %d is above max_prompt %d", c.Length.MinPrompt, c.Length.MaxPrompt)
	case c.Length.MaxResponse > 0 && c.Length.MinResponse > c.Length.MaxResponse:
		return fmt.Errorf("checks.length: min_response %d is above max_response %d", c.Length.MinResponse, c.Length.MaxResponse)
	case c.Repetition.Times < 2:
		return fmt.Errorf("checks.repetition.times: must be at least 2, not %d", c.Repetition.Times)
	case c.Language.Share < 0 || c.Language.Share > 1:
		return fmt.Errorf("checks.language.share: must be 0..1, not %v", c.Language.Share)
	case c.Contamination.NGram < 1:
		return fmt.Errorf("checks.contamination.ngram: must be at least 1, not %d", c.Contamination.NGram)
	case c.Contamination.Share <= 0 || c.Contamination.Share > 1:
		return fmt.Errorf("checks.contamination.share: must be above 0 and at most 1, not %v", c.Contamination.Share)
	}
	return nil
}

// finding is what a check says about a row.
type finding struct {
	check    int
	evidence string
}

// checker applies the checks of one row alone. It is safe for many goroutines.
type checker struct {
	checks     *Checks
	severities [checkCount]string
	tokenizer  *tokenizer.Tokenizer // nil: tokens are not counted
	against    *ngrams              // nil: nothing to compare with
}

// sizes is what the histograms show of a row.
type sizes struct {
	prompt, think, response                   int // characters
	promptTokens, responseTokens, totalTokens int // 0 without a tokenizer
}

// row is every finding about a row that needs no other row.
func (c *checker) row(r *dataset.Row) ([]finding, sizes, error) {
	var found []finding
	size, err := c.measure(r)
	if err != nil {
		return nil, size, err
	}
	for _, one := range [...]struct {
		check int
		do    func(*Checks, *dataset.Row) string
	}{
		{checkEmpty, findEmpty}, {checkRoles, findRoles}, {checkThink, findThink}, {checkBoxed, findBoxed},
		{checkControl, findControl}, {checkEncoding, findEncoding},
		{checkLength, func(k *Checks, _ *dataset.Row) string { return findLength(&k.Length, size) }},
		{checkTokens, func(k *Checks, _ *dataset.Row) string { return findTokens(&k.Tokens, size) }},
		{checkRepetition, findRepetition}, {checkLanguage, findLanguage}, {checkRefusal, findRefusal},
		{checkContamination, func(k *Checks, r *dataset.Row) string { return c.against.find(k, r) }},
		{checkFlags, findFlags},
	} {
		if c.severities[one.check] == "off" {
			continue
		}
		if evidence := one.do(c.checks, r); evidence != "" {
			found = append(found, finding{one.check, evidence})
		}
	}
	return found, size, nil
}

// excerpt is a text cut short for a message: n bytes around the place at.
func excerpt(s string, at, n int) string {
	from, to := max(at-n/2, 0), min(max(at-n/2, 0)+n, len(s))
	for from > 0 && s[from]&0xc0 == 0x80 {
		from--
	}
	for to < len(s) && s[to]&0xc0 == 0x80 {
		to++
	}
	cut := fmt.Sprintf("%q", s[from:to])
	if from > 0 {
		cut = "…" + cut
	}
	if to < len(s) {
		cut += "…"
	}
	return cut
}
