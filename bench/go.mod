module github.com/adamant-go/adamant/bench

go 1.26.0

require github.com/adamant-go/adamant v0.0.0

require github.com/coder/websocket v1.8.15 // indirect

replace github.com/adamant-go/adamant => ../
