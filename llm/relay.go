package llm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/gorilla/websocket"

	"github.com/mcpgw/mcpgw/internal/fault"
	"github.com/mcpgw/mcpgw/telemetry"
)

// How a realtime session is relayed.
const (
	relayBuffer = 4 << 10
	maxMessage  = 16 << 20              // of either side; the audio of a message is the largest
	pongs       = 3                     // pings that a side may leave without an answer
	farewell    = 20 * time.Millisecond // for the close frame to get out
	parting     = time.Second           // for the other side to answer it
)

// A side is one of the two connections of a session.
type side struct {
	*websocket.Conn
	quiet  *time.Timer // runs while something is waited for from it
	silent atomic.Bool // it did not answer pings
}

func newSide(c *websocket.Conn) *side {
	c.SetReadLimit(maxMessage)
	return &side{Conn: c}
}

// A relay is one session: messages go from each side to the other as they come, one at a time,
// so that a side that reads slowly slows the other one down.
type relay struct {
	rec              *telemetry.Record
	clocks           *Clocks
	client, provider *side
	last             atomic.Int64 // when a message came, in nanoseconds since 1970
}

// An ending is how a session ends.
type ending struct {
	toClient, toProvider []byte // the close frames; nil: that side has closed it itself
	abrupt               bool   // nobody is waited for
	linger               bool   // the client is in the middle of saying too much
	err                  error
}

// Ends that the gateway causes.
var (
	errRealtimeIdle = fault.New(fault.UpstreamTimeout, "nothing was said in the realtime session for too long")
	errSilentClient = fault.New(fault.ClientGone, "the client does not answer pings")
)

// run relays until either side closes the session, ctx ends, or nothing comes for too long.
// The error says why it was not an orderly end.
func (s *relay) run(ctx context.Context) error {
	s.last.Store(time.Now().UnixNano())
	s.watch(s.client)
	s.watch(s.provider)
	defer s.client.quiet.Stop()
	defer s.provider.quiet.Stop()
	over := make(chan struct{})
	defer close(over)
	go s.ping(s.client, over)
	go s.ping(s.provider, over)
	ended := make(chan ending, 2)
	go func() { ended <- s.fromClient() }()
	go func() { ended <- s.fromProvider() }()
	idle := time.NewTimer(s.clocks.RealtimeIdle)
	defer idle.Stop()
	left := 2 // sides that are being read
	var e ending
	for waiting := true; waiting; {
		select {
		case e = <-ended:
			left, waiting = 1, false
		case <-ctx.Done():
			away := websocket.FormatCloseMessage(websocket.CloseGoingAway, "the gateway ends the session")
			e, waiting = ending{toClient: away, toProvider: away, err: context.Cause(ctx)}, false
		case <-idle.C:
			if since := time.Since(time.Unix(0, s.last.Load())); since < s.clocks.RealtimeIdle {
				idle.Reset(s.clocks.RealtimeIdle - since)
				continue
			}
			idled := websocket.FormatCloseMessage(websocket.CloseGoingAway, "nothing was said for too long")
			e, waiting = ending{toClient: idled, toProvider: idled, err: errRealtimeIdle}, false
		}
	}
	s.close(&e, ended, left)
	return e.err
}

// close tells the sides that have not closed the session, gives them a moment to answer, and
// closes the connections.
func (s *relay) close(e *ending, ended <-chan ending, left int) {
	for _, to := range []struct {
		*side
		frame []byte
	}{{s.provider, e.toProvider}, {s.client, e.toClient}} {
		if to.frame != nil {
			_ = to.WriteControl(websocket.CloseMessage, to.frame, time.Now().Add(farewell)) // it may be gone
		}
	}
	patience := time.NewTimer(parting)
	defer patience.Stop()
	for !e.abrupt && left > 0 {
		select {
		case <-ended:
			left--
			continue
		case <-patience.C:
		}
		break
	}
	_ = s.provider.Close()
	if e.linger { // or the close frame is lost with what was not read
		conn := s.client.NetConn()
		_ = conn.SetReadDeadline(time.Now().Add(parting))
		_, _ = io.CopyN(io.Discard, conn, maxMessage)
	}
	_ = s.client.Close()
	for ; left > 0; left-- {
		<-ended
	}
}

// watch closes the connection of a side that is silent for longer than pings may stay without
// an answer.
func (s *relay) watch(of *side) {
	of.quiet = time.AfterFunc(pongs*s.clocks.Ping, func() {
		of.silent.Store(true)
		_ = of.Close() // its reader ends
	})
	again := func() { of.quiet.Reset(pongs * s.clocks.Ping) }
	of.SetPongHandler(func(string) error { again(); return nil })
	answer := of.PingHandler()
	of.SetPingHandler(func(data string) error { again(); return answer(data) })
}

// ping pings a side until the session is over.
func (s *relay) ping(to *side, over <-chan struct{}) {
	tick := time.NewTicker(s.clocks.Ping)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			_ = to.WriteControl(websocket.PingMessage, nil, time.Now().Add(s.clocks.Ping)) // a side that is gone has no reader any more
		}
	}
}

// next passes one message on. What a side takes to be read from is not the other one's silence.
func (s *relay) next(from, to *side, count *int64, look func([]byte)) (readErr, writeErr error) {
	typ, message, err := from.ReadMessage()
	if err != nil {
		return err, nil
	}
	from.quiet.Stop()
	s.last.Store(time.Now().UnixNano())
	*count += int64(len(message))
	if look != nil && typ == websocket.TextMessage {
		look(message)
	}
	if err := to.WriteMessage(typ, message); err != nil {
		return nil, err
	}
	from.quiet.Reset(pongs * s.clocks.Ping)
	return nil, nil
}

// fromClient relays what the client says until it ends.
func (s *relay) fromClient() ending {
	for {
		readErr, writeErr := s.next(s.client, s.provider, &s.rec.BytesRead, nil)
		if readErr == nil && writeErr == nil {
			continue
		}
		if writeErr != nil { // whoever reads from the provider knows why
			return ending{toClient: broken(), err: fault.Wrap(fault.UpstreamFailed, writeErr, "the provider's connection broke off")}
		}
		if frame := closing(readErr); frame != nil {
			e := ending{toProvider: frame}
			if errors.Is(readErr, websocket.ErrReadLimit) {
				e.linger = true
				e.err = fault.New(fault.TooLarge, "a message of the client is larger than %d MiB", maxMessage>>20)
			}
			return e
		}
		e := ending{toProvider: websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), abrupt: true, err: gone(readErr)}
		if s.client.silent.Load() {
			e.err = errSilentClient
		}
		return e
	}
}

// fromProvider relays what the provider says until it ends.
func (s *relay) fromProvider() ending {
	for {
		readErr, writeErr := s.next(s.provider, s.client, &s.rec.BytesSent, s.account)
		if readErr == nil && writeErr == nil {
			continue
		}
		if writeErr != nil {
			return ending{toProvider: websocket.FormatCloseMessage(websocket.CloseGoingAway, ""), abrupt: true, err: gone(writeErr)}
		}
		if frame := closing(readErr); frame != nil {
			e := ending{toClient: frame}
			if errors.Is(readErr, websocket.ErrReadLimit) {
				e.err = fault.New(fault.UpstreamFailed, "a message of the provider is larger than %d MiB", maxMessage>>20)
			}
			return e
		}
		return ending{toClient: broken(), err: fault.Wrap(fault.UpstreamFailed, readErr, "the provider's connection broke off")}
	}
}

// broken is what the client reads when the provider's end broke.
func broken() []byte {
	return websocket.FormatCloseMessage(websocket.CloseInternalServerErr, "the provider's connection broke off")
}

// closing returns the close frame that passes on how a side closed the session; nil when it
// did not.
func closing(err error) []byte {
	var e *websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return websocket.FormatCloseMessage(websocket.CloseMessageTooBig, "")
	case !errors.As(err, &e), e.Code == websocket.CloseAbnormalClosure:
		return nil
	default:
		return websocket.FormatCloseMessage(e.Code, e.Text)
	}
}

var responseDone = []byte(`"response.done"`)

// account counts what a response cost (Realtime API, server event response.done).
func (s *relay) account(message []byte) {
	if !bytes.Contains(message, responseDone) {
		return
	}
	var event struct {
		Type     string `json:"type"`
		Response struct {
			Usage *struct {
				Input  int64 `json:"input_tokens"`
				Output int64 `json:"output_tokens"`
				Detail struct {
					Cached int64 `json:"cached_tokens"`
					Audio  int64 `json:"audio_tokens"`
				} `json:"input_token_details"`
				OutputDetail struct {
					Audio int64 `json:"audio_tokens"`
				} `json:"output_token_details"`
			} `json:"usage"`
		} `json:"response"`
	}
	if err := json.Unmarshal(message, &event); err != nil || event.Type != "response.done" || event.Response.Usage == nil {
		return // the client sees for itself
	}
	u := event.Response.Usage
	total := &s.rec.LLM.Usage
	total.Known = true
	total.Input += u.Input
	total.Output += u.Output
	total.CacheRead += u.Detail.Cached
	total.AudioInput += u.Detail.Audio
	total.AudioOutput += u.OutputDetail.Audio
}
