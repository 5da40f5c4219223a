module nodeagent.dev/tests/peers

go 1.19
