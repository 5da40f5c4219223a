"""The agent process: it assembles everything and touches no request.

Five nouns: the *Agent* owns one instance on this node; a *Worker* is a supervised proxy process;
the *Broker* makes sockets inside pods; an *EnrolledPod* is a workload whose namespace we hold;
a *Generation* is a compiled configuration, in force once workers acknowledged it and maps carry it.
"""
