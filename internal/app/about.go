package app

import (
	"runtime"
	"runtime/debug"
)

// An About says what this program is.
type About struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// AboutThis returns what is known of this program, with the version that the
// linker gave it.
func AboutThis(version string) About {
	about := About{
		Version:  version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				about.Commit = setting.Value
			}
		}
	}
	return about
}
