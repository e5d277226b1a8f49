package dialect

// A Model is what a list of models says of one. Zero values are what it does not say.
type Model struct {
	ID      string
	Owner   string
	Title   string   // for people
	Created int64    // in seconds since 1970
	Input   int64    // tokens that it reads at most
	Output  int64    // tokens that it writes at most
	Methods []string // of the Gemini API that it has
}
