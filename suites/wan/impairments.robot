*** Settings ***
Documentation    Every link is impaired in one way at a time.

Resource         ../resources/session.resource
Resource         ../resources/impairment.resource

Test Tags        wan


*** Test Cases ***
Long And Unsteady Delay
    [Documentation]    As over a geostationary satellite: 300 ms each way, with jitter.
    Set Delay On All Links    300 ms    jitter=20 ms
    Sites Should Converge

Independent Loss
    [Documentation]    Each packet is lost with the same probability, each way.
    Set Loss On All Links    2%
    Sites Should Converge Under Loss

Burst Loss
    [Documentation]    Gilbert-Elliott loss: bursts of five packets.
    Set Burst Loss On All Links    2%    burst_packets=5
    Sites Should Converge Under Loss

Low Rate
    [Documentation]    Every link is a narrow line with a shallow buffer.
    Set Rate On All Links    2 Mbit/s
    Sites Should Converge
