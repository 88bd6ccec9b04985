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
	Prompt        PromptCheck        `hcl:"prompt,optional" doc:"questions that a model cannot see whole: addresses, pictures, tables of pictures, hardly any letters"`
	NormalForm    SeverityOnly       `hcl:"normal_form,optional" doc:"text that preprocess would change: CR LF, Unicode that is not NFC"`
	Contamination ContaminationCheck `hcl:"contamination,optional" doc:"prompts that stand in the files of the input against"`
	IDs           SeverityOnly       `hcl:"ids,optional" doc:"an id that an earlier row has"`
	Flags         SeverityOnly       `hcl:"flags,optional" doc:"rows that an earlier stage flagged"`
	Conflicts     SeverityOnly       `hcl:"conflicts,optional" doc:"rows with the same prompt as another and another answer"`
	Phrases       PhrasesCheck       `hcl:"phrases,optional" doc:"responses made largely of phrases that many other rows have too"`
}

// SeverityOnly is a check without limits.
type SeverityOnly struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
}

// RolesCheck looks at who speaks.
type RolesCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	System   bool    `hcl:"system,optional" doc:"rows may begin with a system turn"`
	MaxTurns int     `hcl:"max_turns,optional" doc:"questions of the user, the first included: 1 for single-turn data; 0: any"`
	Tools    bool    `hcl:"tools,optional" doc:"rows may have tool turns"`
}

// ThinkCheck looks at the reasoning.
type ThinkCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Required bool    `hcl:"required,optional" doc:"every row must have reasoning"`
}

// BoxedCheck looks at the final answer.
type BoxedCheck struct {
	Severity  string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly    float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Required  bool    `hcl:"required,optional" doc:"every row must have a \\boxed{} behind its reasoning"`
	Reasoning bool    `hcl:"reasoning,optional" doc:"the last \\boxed{} inside the reasoning, if there is one, must hold the same as the answer's"`
}

// LengthCheck limits characters; 0 sets no limit.
type LengthCheck struct {
	Severity    string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly      float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	MinPrompt   int     `hcl:"min_prompt,optional" unit:"characters" doc:"of the user's turns together"`
	MaxPrompt   int     `hcl:"max_prompt,optional" unit:"characters" doc:"0: any"`
	MinResponse int     `hcl:"min_response,optional" unit:"characters" doc:"of the last assistant turn"`
	MaxResponse int     `hcl:"max_response,optional" unit:"characters" doc:"0: any"`
}

// TokensCheck limits tokens; 0 sets no limit.
type TokensCheck struct {
	Severity    string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly      float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	MaxPrompt   int     `hcl:"max_prompt,optional" unit:"tokens" doc:"0: any"`
	MaxResponse int     `hcl:"max_response,optional" unit:"tokens" doc:"0: any"`
	MaxTotal    int     `hcl:"max_total,optional" unit:"tokens" doc:"of the whole conversation in the chat template; 0: any"`
	MinBytes    float64 `hcl:"min_bytes,optional" unit:"bytes" doc:"of text for a token: fewer is noise or a script that the tokenizer hardly knows; 0: any"`
	MaxBytes    float64 `hcl:"max_bytes,optional" unit:"bytes" doc:"of text for a token: more is blanks or one character over and over; 0: any"`
}

// RepetitionCheck limits loops.
type RepetitionCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Times    int     `hcl:"times,optional" doc:"how often in a row a phrase may stand before it counts as a loop"`
	Span     int     `hcl:"span,optional" unit:"characters" doc:"loops shorter than this, all repetitions together, pass"`
	Share    float64 `hcl:"share,optional" doc:"of the reasoning's words that stand in ten-word phrases which it had before, scattered over the text (Gopher's measure); 0: any"`
}

// LanguageCheck limits what is written in other writing systems.
type LanguageCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Share    float64 `hcl:"share,optional" doc:"of the response's letters; Greek passes in mathematics"`
}

// ContaminationCheck compares n-grams of words with those of test sets.
type ContaminationCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	NGram    int     `hcl:"ngram,optional" unit:"words" doc:"shorter prompts are compared whole"`
	Share    float64 `hcl:"share,optional" doc:"of the prompt's n-grams that stand in one of the test sets"`
}

// PromptCheck looks at what the user asks.
type PromptCheck struct {
	Severity  string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly    float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Addresses bool    `hcl:"addresses,optional" doc:"find http and https addresses"`
	Pictures  bool    `hcl:"pictures,optional" doc:"find Markdown and HTML images, \\includegraphics, and words like: the figure below"`
	NonText   float64 `hcl:"non_text,optional" doc:"largest share of characters that are no letters, digits, blanks or common marks; 0: any"`
}

// PhrasesCheck compares responses with one another.
type PhrasesCheck struct {
	Severity string  `hcl:"severity,optional" doc:"error, warn or off"`
	Mostly   float64 `hcl:"mostly,optional" doc:"share of rows that must pass, else the stage fails, whatever on_fail says; 0: any"`
	Words    int     `hcl:"words,optional" unit:"words" doc:"length of a phrase"`
	Rows     int     `hcl:"rows,optional" unit:"rows" doc:"a phrase is common from so many rows on that have it"`
	Share    float64 `hcl:"share,optional" doc:"of a response's phrases that are common; one in 16 is looked at, chosen by its words"`
}

func defaultChecks() Checks {
	on, warn := SeverityOnly{Severity: "error"}, SeverityOnly{Severity: "warn"}
	return Checks{
		Empty: on, ControlTokens: on, Encoding: on, Refusal: on, IDs: warn, Flags: warn, NormalForm: warn, Conflicts: SeverityOnly{Severity: "off"},
		Prompt:        PromptCheck{Severity: "warn", Addresses: true, Pictures: true, NonText: 0.3},
		Phrases:       PhrasesCheck{Severity: "off", Words: 20, Rows: 20, Share: 0.5},
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
var checkNames = [...]string{"empty", "roles", "think", "boxed", "control_tokens", "encoding", "length", "tokens", "repetition", "language", "refusal", "prompt", "normal_form", "contamination", "ids", "flags", "conflicts", "phrases", "near_duplicates"}

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
	checkPrompt
	checkNormalForm
	checkContamination
	checkIDs
	checkFlags
	checkConflicts
	checkPhrases
	checkNear
	checkCount
)

func (c *Checks) severities() [checkCount]string {
	return [checkCount]string{
		c.Empty.Severity, c.Roles.Severity, c.Think.Severity, c.Boxed.Severity, c.ControlTokens.Severity,
		c.Encoding.Severity, c.Length.Severity, c.Tokens.Severity, c.Repetition.Severity, c.Language.Severity,
		c.Refusal.Severity, c.Prompt.Severity, c.NormalForm.Severity, c.Contamination.Severity, c.IDs.Severity, c.Flags.Severity,
		c.Conflicts.Severity, c.Phrases.Severity, "error",
	}
}

// mostly is the share of rows that must pass each check, 0 for any.
func (c *Checks) mostly() [checkCount]float64 {
	return [checkCount]float64{
		c.Empty.Mostly, c.Roles.Mostly, c.Think.Mostly, c.Boxed.Mostly, c.ControlTokens.Mostly,
		c.Encoding.Mostly, c.Length.Mostly, c.Tokens.Mostly, c.Repetition.Mostly, c.Language.Mostly,
		c.Refusal.Mostly, c.Prompt.Mostly, c.NormalForm.Mostly, c.Contamination.Mostly, c.IDs.Mostly, c.Flags.Mostly,
		c.Conflicts.Mostly, c.Phrases.Mostly, 0,
	}
}

// check finds settings that do not fit together.
func (c *Checks) check() error {
	for i, severity := range c.severities() {
		if err := among("checks."+checkNames[i]+".severity", severity, "error", "warn", "off"); err != nil {
			return err
		}
	}
	for i, share := range c.mostly() {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("checks.%s.mostly: must be 0..1, not %v", checkNames[i], share)
		}
	}
	return c.limits()
}

func (c *Checks) limits() error {
	switch {
	case c.Roles.MaxTurns < 0:
		return fmt.Errorf("checks.roles.max_turns: must not be negative")
	case c.Tokens.MaxBytes > 0 && c.Tokens.MinBytes > c.Tokens.MaxBytes:
		return fmt.Errorf("checks.tokens: min_bytes %v is above max_bytes %v", c.Tokens.MinBytes, c.Tokens.MaxBytes)
	case c.Repetition.Share < 0 || c.Repetition.Share > 1:
		return fmt.Errorf("checks.repetition.share: must be 0..1, not %v", c.Repetition.Share)
	case c.Prompt.NonText < 0 || c.Prompt.NonText > 1:
		return fmt.Errorf("checks.prompt.non_text: must be 0..1, not %v", c.Prompt.NonText)
	case c.Phrases.Words < 1 || c.Phrases.Rows < 2:
		return fmt.Errorf("checks.phrases: words must be at least 1 and rows at least 2, not %d and %d", c.Phrases.Words, c.Phrases.Rows)
	case !(c.Phrases.Share > 0 && c.Phrases.Share <= 1):
		return fmt.Errorf("checks.phrases.share: must be above 0 and at most 1, not %v", c.Phrases.Share)
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
	bytes, contentTokens                      int // of all turns; without the template's tokens
	answer                                    verdict
}

// row is every finding about a row that needs no other row.
func (c *checker) row(r *dataset.Row) ([]finding, sizes, error) {
	var found []finding
	var space [4]marks
	v := viewOf(r, space[:])
	size, err := c.measure(v)
	if err != nil {
		return nil, size, err
	}
	for _, one := range [...]struct {
		check int
		do    func(*Checks, *view) string
	}{
		{checkEmpty, findEmpty}, {checkRoles, findRoles}, {checkThink, findThink},
		{checkBoxed, func(k *Checks, r *view) (evidence string) {
			evidence, size.answer = findBoxed(k, r)
			return evidence
		}},
		{checkControl, findControl}, {checkEncoding, findEncoding},
		{checkLength, func(k *Checks, _ *view) string { return findLength(&k.Length, size) }},
		{checkTokens, func(k *Checks, _ *view) string { return findTokens(&k.Tokens, size) }},
		{checkRepetition, findRepetition}, {checkLanguage, findLanguage}, {checkRefusal, findRefusal},
		{checkPrompt, findPrompt}, {checkNormalForm, findNormalForm},
		{checkContamination, func(k *Checks, r *view) string { return c.against.find(k, r) }},
		{checkFlags, findFlags},
	} {
		if c.severities[one.check] == "off" {
			continue
		}
		if evidence := one.do(c.checks, v); evidence != "" {
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
