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

// Registers returns the names of the cases that a backend which can only find does not pass.
func Registers() (names []string) {
	for _, p := range promises() {
		if p.registers {
			names = append(names, p.name)
		}
	}
	return names
}
