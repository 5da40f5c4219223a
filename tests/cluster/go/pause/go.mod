module nodeagent.dev/tests/pause

go 1.25
