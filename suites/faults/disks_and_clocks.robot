*** Settings ***
Documentation    A disk that is full and a clock that is wrong. Skipped where the topology gives nodes neither.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        faults


*** Test Cases ***
A Site With A Full Disk Catches Up When There Is Room
    [Documentation]    The second site's disk has no byte left while files are on their way to it.
    ${before} =    Folder Usage    second
    ${full} =    Fill Disk    second
    ${files} =    Create Files    first    count=4
    Nothing Should Arrive    second    ${before}    within=3 s
    Undo Fault    ${full}
    Wait Until All Sites Agree    timeout=90 s
    Files Should Exist    second    ${files}

A Clock That Jumps Loses No Write
    [Documentation]    The second site's clock is an hour behind while both sides write, and then right again.
    ${jump} =    Jump Clock    second    -3600 s
    ${here} =    Create Files    first    count=3
    ${there} =    Create Files    second    count=3
    Wait Until All Sites Agree    timeout=60 s
    Undo Fault    ${jump}
    Wait Until All Sites Agree    timeout=60 s
    Files Should Exist    second    ${here}
    Files Should Exist    first    ${there}
