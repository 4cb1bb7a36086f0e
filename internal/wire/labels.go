package wire

// Carries reports whether has holds every label of wanted. A label that is absent is none
// whose value is empty.
func Carries(has, wanted map[string]string) bool {
	for key, value := range wanted {
		if got, ok := has[key]; !ok || got != value {
			return false
		}
	}
	return true
}
