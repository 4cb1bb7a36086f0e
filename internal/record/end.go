package record

import "unique"

// Party is who is at one end of a connection: a workload of the mesh.
type Party struct {
	Workload  string // without its instance: "details-v2"
	Service   string // its service: "details"; of a destination the full name that was called
	Namespace string
	Version   string
	Account   string // service account
}

// End is a Party as a record holds it: one word, equal for equal parties. The zero End
// is nobody of the mesh.
type End struct{ handle unique.Handle[Party] }

// NewEnd returns the End of a party.
func NewEnd(p Party) End {
	if p == (Party{}) {
		return End{}
	}
	return End{unique.Make(p)}
}

// Party returns who it is.
func (e End) Party() Party {
	if e == (End{}) {
		return Party{}
	}
	return e.handle.Value()
}
