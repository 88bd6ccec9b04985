package runner

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// ApplyValues returns a file of values (vars.auto.hcl) with some variables set to values in canonical JSON. All else,
// comments and layout too, stays as it is.
func ApplyValues(src []byte, name string, values map[string]string) ([]byte, error) {
	file, err := parseToWrite(src, name)
	if err != nil {
		return nil, err
	}
	for _, variable := range sortedKeys(values) {
		if err := writeValue(file.Body(), variable, values[variable]); err != nil {
			return nil, err
		}
	}
	return file.Bytes(), nil
}

// ApplyDefaults returns a pipeline file with the defaults of those of the variables set that it declares, and their
// names.
func ApplyDefaults(src []byte, name string, values map[string]string) ([]byte, []string, error) {
	file, err := parseToWrite(src, name)
	if err != nil {
		return nil, nil, err
	}
	var set []string
	for _, block := range file.Body().Blocks() {
		if block.Type() != "variable" || len(block.Labels()) != 1 {
			continue
		}
		value, wanted := values[block.Labels()[0]]
		if !wanted {
			continue
		}
		if err := writeValue(block.Body(), "default", value); err != nil {
			return nil, nil, err
		}
		set = append(set, block.Labels()[0])
	}
	return file.Bytes(), set, nil
}

func parseToWrite(src []byte, name string) (*hclwrite.File, error) {
	file, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, usage("%s cannot be changed while it has mistakes: %s", name, diags[0].Error())
	}
	return file, nil
}

// writeValue sets an attribute; a number keeps the form that it has in JSON (1e-05, not a row of zeros).
func writeValue(body *hclwrite.Body, name, value string) error {
	typ, err := ctyjson.ImpliedType([]byte(value))
	var v cty.Value
	if err == nil {
		v, err = ctyjson.Unmarshal([]byte(value), typ)
	}
	if err != nil {
		return fmt.Errorf("the recorded value of %s is no JSON: %w", name, err)
	}
	if typ == cty.Number && value[0] != '-' {
		body.SetAttributeRaw(name, hclwrite.Tokens{{Type: hclsyntax.TokenNumberLit, Bytes: []byte(value), SpacesBefore: 1}})
		return nil
	}
	body.SetAttributeValue(name, v)
	return nil
}
