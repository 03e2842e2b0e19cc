import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Instant;
import java.util.UUID;

/** Logs a prediction with the JDK alone: java Log.java (11 or newer). */
public class Log {
    public static void main(String[] arguments) throws Exception {
        var record = String.format(
            "{\"model_name\":\"apartment_price\",\"model_version\":\"3\",\"duration_ms\":12.5,\"was_successful\":true,"
                + "\"timestamp\":\"%s\",\"request_id\":\"%s\"}", Instant.now(), UUID.randomUUID());
        var request = HttpRequest.newBuilder(URI.create(System.getenv("PREDLOG_URL") + "/api/v1/predict-logs"))
            .header("Content-Type", "application/json")
            .header("X-API-Key", System.getenv().getOrDefault("PREDLOG_API_KEY", ""))
            .POST(HttpRequest.BodyPublishers.ofString("[" + record + "]")).build();
        for (int tries = 0; tries < 5; tries++) {
            var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.body());
            if (answer.statusCode() != 429 && answer.statusCode() != 503) return;
            Thread.sleep(1000);
        }
    }
}
