package model

import "testing"

// FuzzConfig: a config.json with anything in it.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":8,"num_hidden_layers":1,"num_attention_heads":2,` +
		`"num_key_value_heads":1,"intermediate_size":16,"vocab_size":10,"rms_norm_eps":1e-6,"rope_theta":10000,"eos_token_id":[1,2],"tie_word_embeddings":true}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseConfig(text)
		if err == nil && (c.Layers < 1 || c.C < 1 || c.H < 1 || c.KV < 1) {
			t.Errorf("%+v", c)
		}
	})
}
