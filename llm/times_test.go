package llm_test

import "regexp"

// times are the times in answers that the gateway makes, and that differ from run to run.
var times = regexp.MustCompile(`"created(_at)?":[0-9]{10}`)

// madeUp are ids of calls and answers whose provider gives them none.
var madeUp = regexp.MustCompile(`(call_|bedrock-)[0-9a-f]{16}([0-9a-f]{16})?`)

// ids are the ids of answers whose provider gives them none.
var ids = regexp.MustCompile(`(bedrock-[0-9a-f]{32}|msg_[0-9a-f]{32}|call_[0-9a-f]{16}|(resp|msg|rs|fc|ig)_(bedrock-)?[0-9a-z]{10,}(_[0-9]+)?)`)
