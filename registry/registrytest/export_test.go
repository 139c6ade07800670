package registrytest

// Needs returns the field of Config that each case needs, by its name.
func Needs() map[string]string {
	needs := map[string]string{}
	for _, p := range promises() {
		needs[p.name] = p.needs
	}
	return needs
}

// Why returns the explanation of each case, by its name.
func Why() map[string]string {
	why := map[string]string{}
	for _, p := range promises() {
		why[p.name] = p.why
	}
	return why
}
