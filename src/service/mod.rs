//! Being a service: sockets handed over by launchd or systemd, readiness, units and plists.
