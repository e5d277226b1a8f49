package config

// Load reads files and directories.
func Load(paths []string) (*Resources, *Report) { panic("unwritten") }

// A File is one file of resources.
type File struct {
	Name string
	Text []byte
}

// LoadFiles reads files that are in memory, as Load does.
func LoadFiles(files []File) (*Resources, *Report) { panic("unwritten") }
