//go:build !linux

package main

func reapAsSubreaper(string) int { panic("only on Linux") }

func waitForReaped(string) int { panic("only on Linux") }
