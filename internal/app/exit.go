package app

import (
	"errors"
	"fmt"
)

// An ExitCode is what the process ends with.
type ExitCode int

// The exit codes, the same for every command.
const (
	ExitOK            ExitCode = 0
	ExitFailure       ExitCode = 1 // anything that has no code of its own
	ExitUsage         ExitCode = 2 // the command line is wrong
	ExitInvalidConfig ExitCode = 3 // the configuration is wrong
	ExitDenied        ExitCode = 4 // a policy refuses, or there is no such tool: the gateway makes no difference
	ExitUnreachable   ExitCode = 5 // nothing answers at the address
)

// An ExitError is an error that ends the process with a code of its own.
type ExitError struct {
	Code ExitCode
	Err  error
}

// Error returns the message of the wrapped error.
func (e *ExitError) Error() string { return e.Err.Error() }

// Unwrap returns the wrapped error.
func (e *ExitError) Unwrap() error { return e.Err }

// exit gives err a code. It returns nil for a nil error.
func exit(code ExitCode, err error) error {
	if err == nil {
		return nil
	}
	return &ExitError{Code: code, Err: err}
}

// CodeOf returns the exit code for err: ExitOK for nil, the code of an
// [ExitError] in its chain, else ExitFailure.
func CodeOf(err error) ExitCode {
	var e *ExitError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &e):
		return e.Code
	default:
		return ExitFailure
	}
}

// Usage returns err as a mistake in the command line of a command.
func Usage(command string, err error) error {
	return exit(ExitUsage, fmt.Errorf("%w\nSee `%s --help`", err, command))
}
