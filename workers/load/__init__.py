"""The load engine: Locust conducts, a native thread sends. The only room that imports locust or gevent."""
