package api

import (
	"fmt"
	"strconv"
	"strings"
)

// maxShown is how many of a list a table shows; -o yaml and describe show all.
const maxShown = 3

// ShortList is a list as a table shows it: its first texts, and how many more there are.
func ShortList(texts []string) string {
	if len(texts) > maxShown {
		return fmt.Sprintf("%s + %d more", strings.Join(texts[:maxShown], ","), len(texts)-maxShown)
	}
	return strings.Join(texts, ",")
}

// PortText is a port as a table shows it, 443/https; protocol may be empty.
func PortText(port int32, protocol string) string {
	text := strconv.Itoa(int(port))
	if protocol != "" {
		text += "/" + protocol
	}
	return text
}
