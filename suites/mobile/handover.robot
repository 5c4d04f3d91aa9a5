*** Settings ***
Documentation    Transfers from and to the mobile site while it changes cells.

Resource         ../resources/session.resource
Library          harness.robotlib.workload_library.WorkloadLibrary

Test Setup       Put Site Behind    mobile    lte

Test Tags        mobile


*** Variables ***
${UPLOAD_BYTES}      ${1_200_000}
${DOWNLOAD_BYTES}    ${5_000_000}


*** Test Cases ***
An Upload Survives A Handover
    [Documentation]    The mobile site is gone for two seconds in the middle of its upload.
    Schedule Outage    mobile    after=2 s    duration=2 s
    ${file} =    Create Large File    mobile    size=${UPLOAD_BYTES}
    Wait Until File Arrives Everywhere    mobile    ${file}    timeout=120 s
    Wait Until Outages Are Over
    Outage Should Have Hit The Transfer    mobile

A Download Survives A Handover
    [Documentation]    The same towards the mobile site, from the first one.
    Schedule Outage    mobile    after=2 s    duration=2 s
    ${file} =    Create Large File    first    size=${DOWNLOAD_BYTES}
    Wait Until File Arrives Everywhere    first    ${file}    timeout=120 s
    Wait Until Outages Are Over
    Outage Should Have Hit The Transfer    mobile
