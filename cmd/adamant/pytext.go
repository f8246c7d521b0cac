package main

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// The functions of Python's textwrap that blueapi's client lays out its lists
// with.

// dedent takes off the indentation that all lines share and empties lines that
// are blank.
func dedent(s string) string {
	lines := strings.Split(s, "\n")
	margin, found := "", false
	for i, line := range lines {
		text := strings.TrimLeft(line, " \t")
		if text == "" {
			lines[i] = ""
			continue
		}
		if lead := line[:len(line)-len(text)]; found {
			margin = commonPrefix(margin, lead)
		} else {
			margin, found = lead, true
		}
	}
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, margin)
	}
	return strings.Join(lines, "\n")
}

func commonPrefix(a, b string) string {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return a[:n]
}

// indentText puts a prefix before each line that is not blank.
func indentText(s, prefix string) string {
	var b strings.Builder
	for line := range lines(s) {
		if strings.TrimFunc(line, isPySpace) != "" {
			b.WriteString(prefix)
		}
		b.WriteString(line)
	}
	return b.String()
}

// lines is str.splitlines(keepends=True).
func lines(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for s != "" {
			end := strings.IndexFunc(s, func(r rune) bool {
				return strings.ContainsRune("\n\r\v\f\x1c\x1d\x1e\u0085\u2028\u2029", r)
			})
			if end < 0 {
				end = len(s)
			} else if strings.HasPrefix(s[end:], "\r\n") {
				end += 2
			} else {
				_, size := utf8.DecodeRuneInString(s[end:])
				end += size
			}
			if !yield(s[:end]) {
				return
			}
			s = s[end:]
		}
	}
}

func isPySpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }

// fill breaks a line between words so that none is longer than width, unless a
// word is: that one is broken too.
func fill(s string, width int) string {
	var out []string
	var line string
	chunks := chunksOf(strings.NewReplacer("\t", " ", "\n", " ", "\v", " ", "\f", " ", "\r", " ").Replace(s))
	for len(chunks) > 0 {
		if chunks[0][0] == ' ' && line == "" && len(out) > 0 {
			chunks = chunks[1:]
			continue
		}
		n := utf8.RuneCountInString(chunks[0])
		switch {
		case n <= width-utf8.RuneCountInString(line):
			line += chunks[0]
			chunks = chunks[1:]
		case n <= width:
			out, line = append(out, strings.TrimRight(line, " ")), ""
		default:
			word := []rune(chunks[0])
			for len(word) > width {
				if room := width - utf8.RuneCountInString(line); room > 0 { // and at no room textwrap leaves the blank at the end
					cut := breakWord(word, room)
					line += string(word[:cut])
					word = word[cut:]
				}
				out, line = append(out, line), ""
			}
			chunks[0] = string(word)
		}
	}
	if line = strings.TrimRight(line, " "); line != "" {
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// breakWord tells where to cut a word that has no room: after a hyphen if it
// has one.
func breakWord(word []rune, room int) int {
	for i := room - 1; i > 0; i-- {
		if word[i] == '-' && strings.Trim(string(word[:i]), "-") != "" {
			return i + 1
		}
	}
	return room
}

// chunksOf cuts a text into what may stand on lines of its own: words, parts
// of hyphenated words, dashes, and the blanks between them.
func chunksOf(s string) []string {
	var chunks []string
	text := []rune(s)
	start := 0
	for i := 1; i <= len(text); i++ {
		if i == len(text) || (text[i] == ' ') != (text[i-1] == ' ') || mayBreak(text, start, i) {
			chunks = append(chunks, string(text[start:i]))
			start = i
		}
	}
	return chunks
}

// mayBreak tells whether a word that begins at start may be broken before i:
// after a hyphen with two letters on each side, and around a dash (--).
func mayBreak(s []rune, start, i int) bool {
	letter := func(i int) bool { return i >= start && i < len(s) && unicode.IsLetter(s[i]) }
	word := func(i int) bool {
		return i >= 0 && i < len(s) && (s[i] == '_' || unicode.IsLetter(s[i]) || unicode.IsNumber(s[i]))
	}
	if s[i-1] != '-' {
		end := i
		for end < len(s) && s[end] == '-' {
			end++
		}
		return end-i >= 2 && (word(i-1) || strings.ContainsRune(`!"'&.,?`, s[i-1])) && word(end)
	}
	if i-start >= 2 && s[start] == '-' && start > 0 && s[start-1] != ' ' { // the dash is a chunk
		return word(i) && strings.Trim(string(s[start:i]), "-") == ""
	}
	return letter(i-2) && letter(i-3) &&
		letter(i) && (letter(i+1) || i+2 < len(s) && s[i+1] == '-' && letter(i+2))
}
