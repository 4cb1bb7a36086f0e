package rules

// HiddenFile is the one file here that is not a preset: the list of what `sluice run`
// hides. The commands have it as Go, for reading YAML would double their start.
const HiddenFile = "hidden.yaml"

// Hidden is that list.
type Hidden struct {
	// Moved are folders of a home that a variable puts elsewhere.
	Moved []MovedFolder `yaml:"moved"`
	// Files are those that a variable names in the place of one of Paths.
	Files []MovedFile  `yaml:"files"`
	Paths []HiddenPath `yaml:"hidden"`
}

// MovedFile is a line of the list, and the variable that names another file for it.
type MovedFile struct {
	Path      string `yaml:"path"`
	Variable  string `yaml:"variable"`
	Separated bool   `yaml:"separated,omitempty"` // it names several, as PATH does
}

// MovedFolder is a folder of a home, and the variable that names another in its place.
type MovedFolder struct {
	Folder   string `yaml:"folder"`
	Variable string `yaml:"variable"`
}

// HiddenPath is one line of the list: files or folders with one reason.
type HiddenPath struct {
	Path    string   `yaml:"path"`              // below the home; * stands within one name
	Except  []string `yaml:"except,omitempty"`  // last names that are left alone, as patterns
	What    string   `yaml:"what"`              // is hidden: "tokens of npm registries"
	Holds   string   `yaml:"holds,omitempty"`   // a regular expression; what does not match it is not hidden
	Empty   string   `yaml:"empty,omitempty"`   // what is read in a file's place
	With    []string `yaml:"with,omitempty"`    // names that a folder keeps, empty
	Instead string   `yaml:"instead,omitempty"` // is better than to show it
	Source  string   `yaml:"source"`
}
