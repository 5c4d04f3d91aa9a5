*** Settings ***
Documentation    The mobile site's link follows a recording of a drive: its rate, delay and loss move all the time.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        mobile


*** Variables ***
${BYTES}    ${2_000_000}


*** Test Cases ***
A Transfer Survives A Drive
    [Documentation]    A file goes to the mobile site while its link is that of a phone on a drive.
    ${drive} =    Play Trace    lte-driving    mobile    first
    ${file} =    Create Large File    first    size=${BYTES}
    Wait Until File Arrives Everywhere    first    ${file}    timeout=120 s
    Undo Fault    ${drive}
