package config

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mcpgw/mcpgw/config/v1alpha1"
)

// ParseObject turns an object of one of the kinds of package v1alpha1, as an API server has
// it, into its Go type, in whatever accepted spelling it is written. obj is changed. The problems are the mistakes in
// it, with paths as they are written; when there are any, the object is what could be read. Both are
// nil for other kinds.
func ParseObject(obj map[string]any) (v1alpha1.Object, []Problem) {
	ref := ObjectRef{}
	ref.Kind, _ = obj["kind"].(string)
	if metadata, ok := obj["metadata"].(map[string]any); ok {
		ref.Name, _ = metadata["name"].(string)
		ref.Namespace, _ = metadata["namespace"].(string)
	}
	if v1alpha1.New(ref.Kind) == nil {
		return nil, nil
	}
	var problems []Problem
	written := &unstructured.Unstructured{Object: obj}
	renames, conflicts := v1alpha1.Normalize(ref.Kind, obj)
	for _, c := range conflicts {
		problems = append(problems, Problem{Class: Invalid, Code: CodeConflict, Object: ref, Path: c.Path, Message: c.Message})
	}
	o, errs := v1alpha1.Parse(ref.Kind, obj)
	// Its metadata is the API server's, also where nothing else could be read.
	o.SetName(ref.Name)
	o.SetNamespace(ref.Namespace)
	o.SetUID(written.GetUID())
	o.SetGeneration(written.GetGeneration())
	o.SetCreationTimestamp(written.GetCreationTimestamp())
	o.SetLabels(written.GetLabels())
	o.SetAnnotations(written.GetAnnotations())
	for _, e := range errs {
		p := fieldProblem(e).Problem
		p.Object, p.Path = ref, v1alpha1.Written(renames, p.Path)
		if p.Help == "" && p.Label != "" {
			p.Help = p.Label // there is no excerpt that it could stand at
		}
		problems = append(problems, p)
	}
	if len(problems) > maxProblems {
		problems = append(problems[:maxProblems], Problem{
			Class: Invalid, Code: CodeTooManyProblems, Object: ref, Message: fmt.Sprintf("more than %d problems: the rest is not told", maxProblems),
		})
	}
	return o, problems
}
