package v1alpha1

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

func (c *AIClocks) rules(p *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, clock := range []struct {
		name string
		d    Duration
		most time.Duration
	}{
		{"connect", c.Connect, time.Minute}, {"firstContent", c.FirstContent, time.Hour}, {"idle", c.Idle, time.Hour}, {"total", c.Total, 24 * time.Hour},
	} {
		errs = append(errs, between(p.Child(clock.name), clock.d, time.Millisecond, clock.most)...)
	}
	return errs
}

// between reports a duration that is written and shorter than least or longer than most.
func between(p *field.Path, d Duration, least, most time.Duration) field.ErrorList {
	if errs := atLeast(p, d, least); len(errs) > 0 {
		return errs
	}
	if d.Value() > most {
		return field.ErrorList{field.Invalid(p, string(d), fmt.Sprintf("must be at most %s", short(most)))}
	}
	return nil
}
