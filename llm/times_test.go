package llm_test

import "regexp"

// times are the times in answers that the gateway makes, and that differ from run to run.
var times = regexp.MustCompile(`"created(_at)?":[0-9]{10}`)

// madeUp are ids of calls whose provider gives them none.
var madeUp = regexp.MustCompile(`call_[0-9a-f]{16}`)
