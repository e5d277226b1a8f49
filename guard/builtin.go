package guard

import "fmt"

// A Builtin is a recogniser that the gateway carries.
type Builtin string

// The builtins. None of them computes check digits: what looks like one is one.
const (
	SSN         Builtin = "SSN"          // of the United States, <SSN>
	CreditCard  Builtin = "CREDIT_CARD"  // <CREDIT_CARD>
	PhoneNumber Builtin = "PHONE_NUMBER" // valid in one of some countries, <PHONE_NUMBER>
	Email       Builtin = "EMAIL"        // <EMAIL_ADDRESS>
	CaSin       Builtin = "CA_SIN"       // Canadian social insurance number, <CA_SIN>
)

// builtin returns the mask token of a builtin and its expressions.
func (b Builtin) expressions() (token string, expressions []string) {
	switch b {
	case SSN:
		return "<SSN>", []string{
			`\b([0-9]{5})-([0-9]{4})\b`,
			`\b([0-9]{3})-([0-9]{6})\b`,
			`\b(([0-9]{3})-([0-9]{2})-([0-9]{4}))\b`,
			`\b[0-9]{9}\b`,
			`\b([0-9]{3})[- .]([0-9]{2})[- .]([0-9]{4})\b`,
		}
	case CreditCard:
		return "<CREDIT_CARD>", []string{
			`\b4\d{3}[- ]?(\d{3,4})[- ]?(\d{3,4})[- ]?(\d{3,5})\b`,
			`\b5[0-5]\d{2}[- ]?(\d{3,4})[- ]?(\d{3,4})[- ]?(\d{3,5})\b`,
			`\b6\d{3}[- ]?(\d{3,4})[- ]?(\d{3,4})[- ]?(\d{3,5})\b`,
			`\b3\d{3}[- ]?(\d{3,4})[- ]?(\d{3,4})[- ]?(\d{3,5})\b`,
			`\b1\d{3}[- ]?(\d{3,4})[- ]?(\d{3,4})[- ]?(\d{4,5})\b`,
		}
	case Email:
		return "<EMAIL_ADDRESS>", []string{`[a-zA-Z0-9_.+-]+@[a-zA-Z0-9-]+\.[a-zA-Z0-9-.]+`}
	case CaSin:
		return "<CA_SIN>", []string{`\b([0-9]{3})[- ]([0-9]{3})[- ]([0-9]{3})\b`, `\b[0-9]{9}\b`}
	case PhoneNumber:
		return "<PHONE_NUMBER>", nil
	default:
		return "", nil
	}
}

// recognizer compiles a builtin.
func (b Builtin) recognizer() (*recognizer, error) {
	token, expressions := b.expressions()
	if token == "" {
		return nil, fmt.Errorf("there is no recogniser %q", string(b))
	}
	r := &recognizer{token: token, phones: b == PhoneNumber}
	for _, e := range expressions {
		p, err := compile(e)
		if err != nil {
			return nil, err
		}
		r.patterns = append(r.patterns, p)
	}
	return r, nil
}
