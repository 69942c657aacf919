"""One file a mesh: charts, enrolment, configuration, proof of passage, and what removal leaves."""
