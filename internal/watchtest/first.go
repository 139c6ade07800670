package watchtest

// First blocks until the watch has yielded a pair, and returns the first one.
func (w *Watcher) First() Pair {
	w.t.Helper()
	w.Until("a set or an error", func(Pair) bool { return true })
	return w.All()[0]
}
