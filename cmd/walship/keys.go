package main

import (
	"fmt"
	"strings"

	"walship/internal/config"
	"walship/internal/crypt"
)

// recipients are those of the configuration; nil if it names none.
func recipients(conf *config.Config) (*crypt.Recipients, error) {
	texts := conf.Recipients
	if conf.RecipientsFile != "" {
		more, err := crypt.ReadRecipients(conf.RecipientsFile)
		if err != nil {
			return nil, err
		}
		texts = append(texts[:len(texts):len(texts)], more...)
	}
	return crypt.ParseRecipients(texts)
}

// keys are the identities of the configuration, which are read when they are
// needed.
func keys(conf *config.Config) *crypt.Keys { return crypt.NewKeys(conf.IdentityFile) }

// shortRecipients names them on one line that fits a terminal; all of each is in
// the JSON.
func shortRecipients(texts []string) string {
	var names []string
	for _, text := range texts {
		names = append(names, crypt.Short(text))
	}
	return strings.Join(names, ", ")
}

// sealedText says to how many recipients an archive's files are encrypted, as the
// end of a line; "" if they are not.
func sealedText(recipients []string) string {
	switch len(recipients) {
	case 0:
		return ""
	case 1:
		return ", encrypted to " + crypt.Short(recipients[0])
	}
	return fmt.Sprintf(", encrypted to %d recipients", len(recipients))
}
