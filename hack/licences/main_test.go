package main

import "testing"

func TestALicenceIsKnownByItsText(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                              "Apache-2.0",
		"Permission is hereby granted,\nfree of charge, to any person … deal … without restriction": "MIT",
		"Redistribution and use in source and binary forms, … endorse or promote products":          "BSD-3-Clause",
		"Redistribution and use in source and binary forms, with or without modification":           "BSD-2-Clause",
		"GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007":                                       "",
		"GNU AFFERO General Public License … Apache License Version 2.0 …":                          "",
		"All rights reserved.": "",
	} {
		if got := kindOf(text); got != want {
			t.Errorf("%.40q is %q, want %q", text, got, want)
		}
	}
}
