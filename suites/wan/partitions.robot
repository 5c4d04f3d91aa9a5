*** Settings ***
Documentation    A site is cut off from all others for a while; what either side writes meanwhile must survive.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Tags        wan    partition


*** Test Cases ***
Both Sides Write While A Site Is Cut Off
    [Documentation]    New files and edits of the same files on both sides, then the site rejoins.
    ${files} =    Create Files    first    count=8
    Wait Until All Sites Agree    timeout=60 s
    Cut Site Off    last
    Create Files At All Sites    count=6
    Change Files At All Sites    ${files}
    Rejoin Site    last
    Wait Until All Sites Agree    timeout=90 s

A Cut Off Site Deletes What Others Rename
    [Documentation]    Neither side knows of the other's act until the site rejoins.
    ${files} =    Create Files    first    count=6
    Wait Until All Sites Agree    timeout=60 s
    Cut Site Off    last
    Delete Files    last    ${files}
    ${renamed} =    Rename Files    first    ${files}
    Rejoin Site    last
    Wait Until All Sites Agree    timeout=90 s
    Files Should Exist    last    ${renamed}
