"""Longhaul's harness: builds a WAN on one machine, puts software on its sites, tests it, and reports.

It owns the lab, the suites and the verdict. It refuses to know any engine: a system under test is reached only
through a SUT adapter that drives a command line or an API over SSH.
"""
