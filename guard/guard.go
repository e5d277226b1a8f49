// Package guard finds in texts what must not pass, and masks or rejects it.
//
// A [Regex] is a list of regular expressions and built-in recognisers with one action. It
// masks whole texts with [Regex.Mask], and texts that come in pieces with a [Stream], which
// gives out nothing that what comes next could still make a part of a match. A [Prompt]
// checks what a client sends, an [Answer] what it gets: each asks a [Webhook], applies a
// Regex, and a Prompt asks a [Moderation] at last, in this order.
//
// The package knows texts and verdicts. What a message is in a protocol, and how a
// rejection is said there, is its callers' business. A service that can't be asked rejects:
// every doubt is decided against the text.
package guard

import (
	"context"
	"net/http"

	"github.com/mcpgw/mcpgw/internal/fault"
)

// A Message is one text and whose it is.
type Message struct {
	Role string // system, user, assistant, tool, …
	Text string
}

// A Rejection is why a text does not pass, and what the one who sent it is told.
type Rejection struct {
	Status  int    // HTTP status
	Message string // plain text
	By      string // regex, webhook or moderation
}

// Error implements error.
func (r *Rejection) Error() string { return "rejected by the " + r.By + " of a prompt guard" }

// A Prompt checks prompts. It is immutable and safe for concurrent use.
type Prompt struct {
	Webhook    *Webhook    // nil asks nobody
	Regex      *Regex      // nil finds nothing
	Moderation *Moderation // nil asks nobody
	Rejection  Rejection   // what a client is told; By is filled in
}

// Check returns the messages as they may pass: as many as were given, in the same order. Those
// that nothing was found in are the same. header is the client's. The error is a
// *[Rejection], or a [fault.Fault] when a service could not be asked.
func (p *Prompt) Check(ctx context.Context, header http.Header, messages []Message) ([]Message, error) {
	if p == nil || len(messages) == 0 {
		return messages, nil
	}
	if p.Webhook != nil {
		out, no, err := p.Webhook.request(ctx, header, messages)
		if err != nil {
			return nil, err
		}
		if no != nil {
			return nil, no
		}
		messages = out
	}
	if p.Regex != nil {
		var rejected bool
		if messages, rejected = p.Regex.messages(messages); rejected {
			return nil, p.rejection("regex")
		}
	}
	if p.Moderation != nil {
		flagged, err := p.Moderation.flags(ctx, messages)
		if err != nil {
			return nil, err
		}
		if flagged {
			return nil, p.rejection("moderation")
		}
	}
	return messages, nil
}

func (p *Prompt) rejection(by string) *Rejection {
	r := p.Rejection
	r.By = by
	return &r
}

// An Answer checks answers. It is immutable and safe for concurrent use.
type Answer struct {
	Webhook   *Webhook  // nil asks nobody
	Regex     *Regex    // nil finds nothing
	Rejection Rejection // what a client is told; By is filled in
}

// Ask returns the messages as the webhook lets them pass, as [Prompt.Check] does, and the
// messages themselves without a webhook. The Regex is for the caller to apply.
func (a *Answer) Ask(ctx context.Context, header http.Header, messages []Message) ([]Message, error) {
	if a == nil || a.Webhook == nil || len(messages) == 0 {
		return messages, nil
	}
	out, no, err := a.Webhook.response(ctx, header, messages)
	if err != nil {
		return nil, err
	}
	if no != nil {
		return nil, no
	}
	return out, nil
}

// Rejected returns the rejection of an answer in which the Regex found something.
func (a *Answer) Rejected() *Rejection {
	r := a.Rejection
	r.By = "regex"
	return &r
}

// unavailable is the fault of a service that can't be asked: what it would have checked does
// not pass.
func unavailable(what string, err error) error {
	return fault.Wrap(fault.UpstreamUnreachable, err, "the %s of the prompt guard could not be asked", what)
}
