package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"lpipe/engine/tokenizer"
)

func main() {
	switch os.Args[1] {
	case "train":
		n, _ := strconv.Atoi(os.Args[2])
		t0 := time.Now()
		t, err := tokenizer.Train(context.Background(), tokenizer.TrainOptions{VocabSize: n, Texts: func(yield func(string, error) bool) {
			for _, f := range os.Args[4:] {
				b, err := os.ReadFile(f)
				if !yield(string(b), err) {
					return
				}
			}
		}})
		if err != nil {
			panic(err)
		}
		fmt.Println(time.Since(t0), t.VocabSize(), t.Save(os.Args[3]))
	case "enc": // DIR files -> ids json per file
		t, err := tokenizer.Load(os.Args[2])
		if err != nil {
			panic(err)
		}
		for _, f := range os.Args[3:] {
			b, _ := os.ReadFile(f)
			j, _ := json.Marshal(t.Encode(nil, string(b), true))
			fmt.Println(string(j))
		}
	case "lines": // DIR file: JSON strings a line -> ids
	}
}
