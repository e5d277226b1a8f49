package jsonpath

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFind(t *testing.T) {
	for _, tt := range []struct {
		patterns []string
		doc      string
		want     []string
	}{
		{[]string{"a"}, `{"a":"x","b":"y"}`, []string{"x"}},
		{[]string{"a[*]"}, `{"a":["x",1,"y",["z"]],"b":"y"}`, []string{"x", "y"}},
		{[]string{"a[*]"}, `{"a":"x"}`, []string{"x"}},
		{[]string{"m[*].c", "m[*].c[*].text"}, ` {"m" : [ {"c":"x"}, {"c":[{"text":"y","other":"n"},{"img":{"text":"n"}}]}, null ] } `, []string{"x", "y"}},
		{[]string{"m[*].c[*].text"}, `{"m":{"c":{"text":"x"}}}`, []string{"x"}},
		{[]string{"a.**"}, `{"a":{"k":"v","n":[1,"w",{"d":true}]},"b":{"x":"y"}}`, []string{"k", "v", "n", "w", "d"}},
		{[]string{"a.**"}, `{"a":"v"}`, []string{"v"}},
		{[]string{"[*].a"}, `[{"a":"x"},{"a":"y"}]`, []string{"x", "y"}},
		{[]string{"s{type=text}.data"}, `{"s":{"data":"x","type":"text"}}`, []string{"x"}},
		{[]string{"s{type=text}.data"}, `{"s":{"type":"base64","data":"x"}}`, nil},
		{[]string{"s[*]{type=text}.data"}, `{"s":[{"type":"base64","data":"x"},{"type":"text","data":"y"}]}`, []string{"y"}},
		{[]string{"a"}, `{"\u0061":"x\"\\\u0041","b":"a\\"}`, []string{`x"\A`}},
		{[]string{"a"}, `{}`, nil},
		{[]string{"a"}, `[]`, nil},
		{[]string{"a"}, `{"a":{"a":"x"}}`, nil},
	} {
		places := Compile(tt.patterns...).Find([]byte(tt.doc))
		var got []string
		for _, p := range places {
			got = append(got, p.Text([]byte(tt.doc)))
		}
		if d := cmp.Diff(tt.want, got); d != "" {
			t.Errorf("%v in %s: %s", tt.patterns, tt.doc, d)
		}
	}
}

func TestReplace(t *testing.T) {
	doc := []byte(`{ "m": [{"c": "x"}, {"c":"y", "z": 1.50}] }`)
	places := Compile("m[*].c").Find(doc)
	if d := cmp.Diff([]int{1}, places[1].Indexes); d != "" {
		t.Error(d)
	}
	if got, want := string(Replace(doc, places, []string{"\"é", ""})), `{ "m": [{"c": "\"é"}, {"c":"", "z": 1.50}] }`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestFindValues(t *testing.T) {
	doc := []byte(`{"c":[{"p": {"x":[1,"]"]} ,"t":"a"},{"p":null},{"p":[{"p":1}]}],"p":1}`)
	places := Compile("c[*].p").FindValues(doc)
	if got, want := string(Splice(doc, places, "0")), `{"c":[{"p": 0 ,"t":"a"},{"p":0},{"p":0}],"p":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// FuzzFind: all strings of any document are found, and replaced by themselves it stays the same.
func FuzzFind(f *testing.F) {
	f.Add(`{"a":[{"b":"c\n"},"d",1,true,null,{}]}`)
	f.Fuzz(func(t *testing.T, doc string) {
		if !json.Valid([]byte(doc)) {
			return
		}
		places := Compile("**").Find([]byte(doc))
		var texts []string
		for _, p := range places {
			texts = append(texts, p.Text([]byte(doc)))
		}
		out := Replace([]byte(doc), places, texts)
		var a, b any
		if err := json.Unmarshal([]byte(doc), &a); err != nil {
			return // too deep
		}
		if err := json.Unmarshal(out, &b); err != nil {
			t.Fatalf("%s became %s: %v", doc, out, err)
		}
		if d := cmp.Diff(a, b); d != "" {
			t.Fatal(d)
		}
	})
}
