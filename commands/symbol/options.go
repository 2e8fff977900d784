package symbol

import (
	"context"
	"fmt"
	"path"
	"strings"

	"gokd/commands/cmd"
	"gokd/model/mem"
)

// options are those of lm.
type options struct {
	pattern, paths          string // of m and M, lower case; empty: all
	at                      *mem.VA
	verbose, times          bool
	loadedOnly, withSymbols bool
	user, byName, namesOnly bool
	image, full             bool
	problems, checksums     bool
}

func (o options) filtered() bool { return o.pattern != "" || o.paths != "" || o.at != nil }

// match reports whether a module is among those asked for.
func (o options) match(name, path string) bool {
	return wild(o.pattern, name) && wild(o.paths, path)
}

// wild matches * and ? whatever the case; an empty pattern matches all. A
// backslash is an ordinary character, as in paths.
func wild(pattern, name string) bool {
	if pattern == "" {
		return true
	}
	quote := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `/`, "\x00")
	ok, err := path.Match(quote.Replace(pattern), strings.ToLower(strings.ReplaceAll(name, "/", "\x00")))
	return err == nil && ok
}

// parseOptions reads lm's letters: in one word or several, in any order. Of m,
// M and a the next word is the argument.
func parseOptions(ctx context.Context, text string, eval cmd.Evaluator) (o options, err error) {
	words := strings.Fields(text)
	for len(words) > 0 {
		letters := strings.TrimPrefix(words[0], "-")
		words = words[1:]
		for letters != "" {
			takes := letters[0]
			if letters, err = o.letter(letters); err != nil {
				return o, err
			}
			if takes != 'm' && takes != 'M' && takes != 'a' {
				continue
			}
			if len(words) == 0 && letters != "" {
				words, letters = []string{letters}, "" // the word may be joined: lmvmnt
			}
			if len(words) == 0 {
				return o, fmt.Errorf("%c needs a word after it", takes)
			}
			if err := o.argument(ctx, takes, words[0], eval); err != nil {
				return o, err
			}
			words = words[1:]
		}
	}
	return o, nil
}

// letter takes the first option off a word.
func (o *options) letter(letters string) (rest string, err error) {
	switch {
	case strings.HasPrefix(letters, "1m"):
		o.namesOnly = true
		return letters[2:], nil
	case strings.HasPrefix(letters, "sm"):
		o.byName = true
		return letters[2:], nil
	}
	switch letters[0] {
	case 'm', 'M', 'a', 'k', 'D': // kernel modules are all there are; no links in a terminal
	case 'v':
		o.verbose = true
	case 't':
		o.times = true
	case 'o':
		o.loadedOnly = true
	case 'l':
		o.withSymbols = true
	case 'u':
		o.user = true
	case 'e':
		o.problems = true
	case 'c':
		o.checksums = true
	case 'n', 'i':
		o.image = true
	case 'f', 'p':
		o.full = true
	default:
		return "", fmt.Errorf("unknown option %q", letters[0])
	}
	return letters[1:], nil
}

func (o *options) argument(ctx context.Context, letter byte, word string, eval cmd.Evaluator) error {
	switch letter {
	case 'm':
		o.pattern = strings.ToLower(word)
	case 'M':
		o.paths = strings.ToLower(strings.ReplaceAll(word, "/", "\x00"))
	default:
		if eval == nil {
			return fmt.Errorf("no evaluator for %q", word)
		}
		v, err := eval.Eval(ctx, word)
		if err != nil {
			return err
		}
		at := mem.VA(v)
		o.at = &at
	}
	return nil
}
