package dialect

import (
	"errors"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

var errNoCount = errors.New("the answer is no count of tokens")

// DecodeCount reads an answer that counts tokens: how many a request would take, as the input of an answer without
// choices. total is the member that says it, cached the one with how many of them a cache has, "" for none; members
// that are known say nothing, and what else there is is lost.
func DecodeCount(body []byte, total, cached string, known ...string) (*Response, error) {
	v := jsontext.Value(body)
	if !v.IsValid() {
		return nil, errNoCount
	}
	r := &Response{}
	var rest Object
	var err error
	Members(v, func(name string, v jsontext.Value) {
		switch {
		case name == total && v.Kind() == '0':
			r.Usage.Known = true
			err = errors.Join(err, json.Unmarshal(v, &r.Usage.Input))
		case name == cached && cached != "":
			err = errors.Join(err, json.Unmarshal(v, &r.Usage.CacheRead))
		case !slices.Contains(known, name):
			rest.Set(name, v)
		}
	})
	if !r.Usage.Known || err != nil {
		return nil, errNoCount
	}
	r.Lose(rest.Value(), "")
	return r, nil
}
