package app

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/mcpgw/mcpgw/config"
	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// PrintSchema writes the JSON schema of all resources.
func PrintSchema(w io.Writer) error {
	schema, err := v1alpha1.Schema()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", strings.TrimSpace(string(schema)))
	return err
}

// Explain writes what is known of a kind or field (Backend.spec.mcp) or of the
// code of a problem (MG0107). The error has ExitUsage when there is no such thing.
func Explain(w io.Writer, what string) error {
	for _, code := range config.Codes() {
		if strings.EqualFold(code.ID, what) {
			_, err := fmt.Fprintf(w, "%s: %s\n\n%s\n", code.ID, code.Title, wrap(code.Text, ""))
			return err
		}
	}
	doc, ok := v1alpha1.Describe(what)
	if !ok {
		return exit(ExitUsage, explainError(what))
	}
	return explainField(w, doc)
}

// explainError says what could have been asked for.
func explainError(what string) error {
	if strings.HasPrefix(strings.ToUpper(what), "MG") {
		return fmt.Errorf("there is no code %s", what)
	}
	known := what
	for {
		parent, _, found := cutLast(known)
		if !found {
			break
		}
		known = parent
		doc, ok := v1alpha1.Describe(known)
		if !ok {
			continue
		}
		var names []string
		for _, field := range doc.Fields {
			_, name, found := cutLast(field)
			if !found {
				name = field
			}
			names = append(names, name)
		}
		_, wrong, _ := strings.Cut(what[len(known):], ".")
		wrong, _, _ = strings.Cut(wrong, ".")
		if near := config.Suggest(wrong, names); near != "" {
			return fmt.Errorf("%s has no field %s. Did you mean %s.%s?", known, wrong, known, near)
		}
		return fmt.Errorf("%s has no field %s. It has: %s", known, wrong, strings.Join(names, ", "))
	}
	if near := config.Suggest(what, v1alpha1.Kinds()); near != "" {
		return fmt.Errorf("there is no kind %s. Did you mean %s?", what, near)
	}
	return errors.New("there is no kind " + what + ". There are: " + strings.Join(v1alpha1.Kinds(), ", "))
}

// cutLast cuts s around its last dot.
func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// explainField writes what the reference says of a field.
func explainField(w io.Writer, doc v1alpha1.FieldDoc) error {
	var b strings.Builder
	name := doc.Kind
	if doc.Path != "" {
		name += "." + doc.Path
	}
	fmt.Fprintf(&b, "%s  <%s>", name, doc.Type)
	if doc.Required {
		b.WriteString("  required")
	}
	fmt.Fprintf(&b, "\n\n%s\n", wrap(doc.Description, ""))
	if len(doc.Values) > 0 {
		fmt.Fprintf(&b, "\nValues: %s\n", strings.Join(doc.Values, ", "))
	}
	if doc.Default != "" {
		fmt.Fprintf(&b, "\nDefault: %s\n", doc.Default)
	}
	if len(doc.OtherNames) > 0 {
		fmt.Fprintf(&b, "\nAlso accepted as: %s\n", strings.Join(doc.OtherNames, ", "))
	}
	if len(doc.Fields) > 0 {
		b.WriteString("\nFields:\n")
	}
	for _, path := range doc.Fields {
		field, ok := v1alpha1.Describe(doc.Kind + "." + path)
		if !ok {
			continue
		}
		_, short, found := cutLast(path)
		if !found {
			short = path
		}
		fmt.Fprintf(&b, "  %s  <%s>\n%s\n", short, field.Type, wrap(field.Description, "      "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks text into lines of at most 80 characters, each after indent.
func wrap(text, indent string) string {
	var b strings.Builder
	for i, paragraph := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString("\n\n")
		}
		line := indent
		for _, word := range strings.Fields(paragraph) {
			if len(line) > len(indent) && len(line)+1+len(word) > 80 {
				b.WriteString(line + "\n")
				line = indent
			}
			if len(line) > len(indent) {
				line += " "
			}
			line += word
		}
		b.WriteString(line)
	}
	return b.String()
}
