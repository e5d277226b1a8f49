package limit

import "time"

// A Window is the time over which is counted. Windows follow the calendar, in UTC: an hour
// begins with the minute 0, a week on Monday.
type Window uint8

// The windows.
const (
	Second Window = iota
	Minute
	Hour
	Day
	Week
	Month
)

// String returns the word for the window.
func (w Window) String() string {
	return [...]string{"second", "minute", "hour", "day", "week", "month"}[w]
}

// Span returns the beginning of the window that t is in, and its end.
func (w Window) Span(t time.Time) (start, end time.Time) {
	t = t.UTC()
	day := func(offset int) time.Time {
		return time.Date(t.Year(), t.Month(), t.Day()+offset, 0, 0, 0, 0, time.UTC)
	}
	switch w {
	case Second, Minute, Hour:
		size := [...]time.Duration{time.Second, time.Minute, time.Hour}[w]
		start = t.Truncate(size)
		return start, start.Add(size)
	case Day:
		return day(0), day(1)
	case Week:
		monday := -(int(t.Weekday()) + 6) % 7
		return day(monday), day(monday + 7)
	default:
		return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC), time.Date(t.Year(), t.Month()+1, 1, 0, 0, 0, 0, time.UTC)
	}
}
