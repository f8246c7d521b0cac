module github.com/adamant-go/adamant

go 1.26
