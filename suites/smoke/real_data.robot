*** Settings ***
Documentation    Real files in number, and one large file: how fast they are at every site.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        real-data


*** Test Cases ***
A Real Tree Reaches Every Site
    [Documentation]    Python's standard library, or the directory that ``--data`` names.
    Copy Real Tree    first    timeout=180 s
    Wait Until All Sites Agree    timeout=60 s

A Large File Reaches Every Site
    [Documentation]    100 MB at once.
    ${file} =    Create Large File    first
    Wait Until File Arrives Everywhere    first    ${file}    timeout=180 s
    Wait Until All Sites Agree    timeout=60 s
