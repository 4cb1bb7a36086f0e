package attribute

import "strings"

// Redacted is the value without what may be a credential: of a path the values of its
// parameters, and of a query if there were one.
func (v Value) Redacted() Value {
	if v.Type == String && strings.ContainsAny(v.text, "?;") {
		v.text = redacted(v.text)
	}
	return v
}

// redacted puts * for each value behind the first ? and behind each ; of the path: what
// stands before an = is a name, and all of it is a value where there is none.
func redacted(path string) string {
	var b strings.Builder
	query := false
	for len(path) > 0 {
		end := strings.IndexAny(path, "/;?")
		if query {
			end = strings.IndexAny(path, "&;")
		}
		part := path
		if end >= 0 {
			part = path[:end]
		}
		path = path[len(part):]
		switch {
		case !query && (b.Len() == 0 || !strings.HasSuffix(b.String(), ";")): // a segment of the path
			b.WriteString(part)
		case part == "":
		default:
			if name, _, named := strings.Cut(part, "="); named {
				b.WriteString(name)
				b.WriteByte('=')
			}
			b.WriteByte('*')
		}
		if len(path) > 0 {
			query = query || path[0] == '?'
			b.WriteByte(path[0])
			path = path[1:]
		}
	}
	return b.String()
}
