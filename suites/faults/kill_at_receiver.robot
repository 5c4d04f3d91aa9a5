*** Settings ***
Documentation       The killed process is at a site that receives.
Resource            ../resources/session.resource
Resource            ../resources/crash.resource
Test Tags           faults
Test Template       Transfer Should Survive A Kill Of


*** Test Cases ***    ROLE    SITE
Mover            mover-udt      second
Coordinator      coordinator    second
Circusd          circusd        second
Supervisor       supervisor     second
